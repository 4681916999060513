import hashlib
import json
import os
import random
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from groundup.core.formats.jsonl import read_jsonl
from groundup.core.formats.records import Conversation, read_records
from groundup.core.text.words import ngram_hashes, word_hashes
from groundup.prepare import processes
from groundup.prepare.clean import dedup
from groundup.prepare.clean.dedup import INDEX_BYTES_PER_DOCUMENT
from groundup.prepare.outputs.outputs import OUTPUTS
from groundup.prepare.prepare import prepare
from groundup.prepare.splits import SPLITS, home_of
from groundup.runner import files
from groundup.runner.params.prepare import CanaryParams, PrepareParams
from tests.killed_steps import KillBeforeEachRecord, Killed
from tests.prepare.made_up import PEOPLE, PackageMaker, files_source, make_params, sentence, text_rows

FOLDERS = (*OUTPUTS, "report")


def run(params: PrepareParams, data_dir: Path, out: Path, num_processes: int = 1) -> dict[str, int]:
    return prepare(
        params, data_dir, {name: out / name for name in OUTPUTS}, out / "report", out / "work", num_processes
    )


def digests(out: Path) -> dict[str, str]:
    files = sorted(path for name in FOLDERS for path in (out / name).rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def params(install_package: PackageMaker, conversations: dict[str, Any], articles: dict[str, Any]) -> PrepareParams:
    talk = install_package("talk", conversations)
    wiki = install_package("wiki", articles) | {"format": "encyclopedia"}
    return make_params([talk, wiki])


def with_own(params: PrepareParams, data_dir: Path, rows: list[str]) -> PrepareParams:
    """The params with a file of these rows as an additional source."""
    data_dir.mkdir(exist_ok=True)
    (data_dir / "own.jsonl").write_text("\n".join(rows))
    own = make_params([files_source("own", ["own.jsonl"], "text")]).sources
    return params.model_copy(update={"sources": [*params.sources, *own]})


def test_all_outputs_fit_together(params: PrepareParams, tmp_path: Path) -> None:
    metrics = run(params, tmp_path, tmp_path / "out")
    out = tmp_path / "out"
    rows = {path.relative_to(out).as_posix(): list(read_jsonl(path)) for path in sorted(out.glob("*/*.jsonl"))}

    def conversations_of(split: str) -> set[str]:
        texts = {row["id"].split("#")[0] for row in rows[f"text/{split}.jsonl"]}
        chats = {row["id"].split("#")[0] for row in rows[f"chats/{split}.jsonl"]}
        prompts = {row["conversation_id"] for row in rows[f"prompts/{split}.jsonl"]}
        pairs = {row[key] for row in rows[f"preferences/{split}.jsonl"] for key in ("chosen_id", "rejected_id")}
        assert chats <= texts
        assert prompts <= texts
        assert pairs <= texts
        return texts

    splits = [conversations_of(split) for split in ("train", "val", "test")]
    splits += [{row["id"] for row in rows[f"{name}/conversations.jsonl"]} for name in ("monitor", "judge")]
    assert all(splits)
    assert sum(map(len, splits)) == len(set().union(*splits))  # no document in two splits
    for task in ("next_reply", "topic", "which_entity", "definition"):
        groups = {row["group_id"] for row in rows[f"evaluation/{task}.jsonl"]}
        assert groups
        assert groups <= splits[2]
    for name in ("monitor", "judge"):
        for row in rows[f"{name}/conversations.jsonl"]:
            assert {"user", "assistant"} <= {message["role"] for message in row["messages"]}
    for split in ("train", "val", "test"):
        assert metrics[f"num_documents_{split}"] == len(rows[f"text/{split}.jsonl"])
        assert metrics[f"num_chats_{split}"] == len(rows[f"chats/{split}.jsonl"])
        assert metrics[f"num_preference_pairs_{split}"] == len(rows[f"preferences/{split}.jsonl"])
        kinds = Counter(row["kind"] for row in rows[f"preferences/{split}.jsonl"])
        assert {kind: metrics[f"num_{kind}_pairs_{split}"] for kind in ("rating", "given", "relevance")} == {
            "rating": kinds["rating"], "given": 0, "relevance": kinds["relevance"]
        }  # fmt: skip
        assert min(kinds["rating"], kinds["relevance"]) > 0
        assert metrics[f"num_prompts_{split}"] == len(rows[f"prompts/{split}.jsonl"])
        assert all(row["messages"][-1]["role"] == "assistant" for row in rows[f"chats/{split}.jsonl"])
        assert all(row["messages"][-1]["role"] == "user" for row in rows[f"prompts/{split}.jsonl"])
        for row in rows[f"preferences/{split}.jsonl"]:
            assert row["chosen"][0] == row["rejected"][0]
            assert row["chosen"][-1]["role"] == row["rejected"][-1]["role"] == "assistant"


def test_the_same_bytes_in_another_place(params: PrepareParams, tmp_path: Path) -> None:
    run(params, tmp_path, tmp_path / "one")
    run(params, tmp_path, tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_the_same_bytes_from_any_number_of_processes(
    params: PrepareParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)
    texts = [sentence(rng, 60) for _ in range(300)]
    texts += [f"{texts[0]} a@b.org", texts[1].upper(), *(f"{sentence(rng, 20)} {text}" for text in texts[:100])]
    rows = [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
    params = with_own(params, tmp_path, [*rows, "junk", *["no " * 40] * 3, json.dumps({"text": "no " * 40})])
    one = run(params, tmp_path, tmp_path / "one", num_processes=1)
    monkeypatch.setattr(processes, "CHUNKS_ALONE", 1)
    monkeypatch.setattr(processes, "CHUNK_CHARACTERS", 3000)
    for number in (2, 3):
        assert run(params, tmp_path, tmp_path / f"{number}", num_processes=number) == one
        assert digests(tmp_path / f"{number}") == digests(tmp_path / "one")
    assert one.keys() >= {
        f"dropped_{reason}" for reason in ("exact_duplicate", "near_duplicate", "contaminated", "repeated_ngrams")
    }


def test_a_leak_in_a_users_file_does_not_reach_train(params: PrepareParams, tmp_path: Path) -> None:
    run(params, tmp_path, tmp_path / "clean")
    item = next(iter(read_jsonl(tmp_path / "clean/evaluation/next_reply.jsonl")))
    leak = item["choices"][item["gold"]]
    rng = random.Random(9)
    texts = [f"{sentence(rng, 40)} {leak} {sentence(rng, 40)}" if i % 2 else sentence(rng, 80) for i in range(30)]
    leaky = with_own(params, tmp_path / "data", [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)])
    metrics = run(leaky, tmp_path / "data", tmp_path / "leaky")
    assert metrics["dropped_contaminated"] > 5
    n = params.decontaminate_ngram
    leaked = set(ngram_hashes(word_hashes(leak), n).tolist())
    assert leaked
    for folder in ("text", "chats"):
        for row in read_jsonl(tmp_path / "leaky" / folder / "train.jsonl"):
            text = row["text"] if folder == "text" else "\n".join(m["content"] for m in row["messages"])
            assert not leaked & set(ngram_hashes(word_hashes(text), n).tolist())


HELD_OUT = {"val": 0.97, "test": 0.01, "monitor": 0.005, "judge": 0.005}
STEPS = ["cleaned-talk", "cleaned-wiki", "unique", "decontaminated", *(f"output-{name}" for name in OUTPUTS)]


def test_killed_in_every_step_it_goes_on_there_and_the_bytes_are_the_same(
    params: PrepareParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(params, tmp_path, tmp_path / "whole")

    kills = KillBeforeEachRecord(monkeypatch)
    for _ in STEPS:
        with pytest.raises(Killed):
            run(params, tmp_path, tmp_path / "resumed")
    run(params, tmp_path, tmp_path / "resumed")
    assert kills.reached == kills.recorded == STEPS  # every step was finished once
    assert digests(tmp_path / "resumed") == digests(tmp_path / "whole")


def test_a_finished_step_whose_files_were_cut_or_zeroed_is_done_again(params: PrepareParams, tmp_path: Path) -> None:
    run(params, tmp_path, tmp_path / "out")
    before = digests(tmp_path / "out")
    for name in ("cleaned-wiki/train.signatures", "output-text/train.jsonl", "cleaned-talk/val.jsonl"):
        os.truncate(tmp_path / "out/work/steps" / name, 100)
    zeroed = tmp_path / "out/work/steps/unique/train.jsonl"
    zeroed.write_bytes(b"\0" * zeroed.stat().st_size)
    run(params, tmp_path, tmp_path / "out")
    assert digests(tmp_path / "out") == before


def test_only_text_leaves_the_other_outputs_empty_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own.txt").write_text("\n\n".join(sentence(random.Random(i), 60) for i in range(40)))
    metrics = run(make_params([files_source("own", ["own.txt"], "text")]), tmp_path, tmp_path / "out")
    assert metrics["num_documents_train"] > 0
    assert metrics["num_chats_train"] == 0
    assert (tmp_path / "out/chats/train.jsonl").read_text() == ""
    assert "chats/train" in caplog.text


def test_duplicates_only_leave_nothing_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(text_rows(1) * 50))
    params = make_params([files_source("own", ["a.jsonl"], "text")], splits=HELD_OUT)
    nothing = r"no document remains for training \(dropped: 49 exact_duplicate; val 1, test 0"
    with pytest.raises(ValueError, match=nothing):
        run(params, tmp_path, tmp_path / "out")


def test_a_source_of_duplicates_of_another_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(text_rows(40)))
    (tmp_path / "b.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes())
    sources = [files_source(name, [f"{name}.jsonl"], "text") for name in ("a", "b")]
    run(make_params(sources, splits=dict.fromkeys(HELD_OUT, 0.001)), tmp_path, tmp_path / "out")
    assert "none of the 40 rows of b was kept (40 exact_duplicate)" in caplog.text


def test_no_pair_is_left_and_prepare_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(text_rows(40)))
    empty = {"prompt": "Hi", "chosen": "\u200b", "rejected": "No"}
    (tmp_path / "p.jsonl").write_text(json.dumps(empty))
    params = make_params([files_source("a", ["a.jsonl"], "text"), files_source("p", ["p.jsonl"], "preferences")])
    run(params, tmp_path, tmp_path / "out")
    assert "none of the 1 rows of p was kept (1 empty_message)" in caplog.text
    assert "no rows for chats/train" in caplog.text
    assert "preferences/train" in caplog.text


def test_the_data_card_and_the_metrics_name_bad_rows(params: PrepareParams, tmp_path: Path) -> None:
    rows = [*text_rows(40), "junk", '{"text": 1}', "more junk of jane@example.org"]
    metrics = run(with_own(params, tmp_path, rows), tmp_path, tmp_path / "out")
    assert (metrics["num_bad_rows"], metrics["bad_rows_not_json"], metrics["bad_rows_wrong_type"]) == (3, 2, 1)
    card = (tmp_path / "out/report/report.md").read_text()
    assert "| own | not_json | 2 | a line is not a JSON object |" in card
    samples = list(read_jsonl(tmp_path / "out/report/quarantine.jsonl"))
    assert [(row["source"], row["line"]) for row in samples] == [("own", 41), ("own", 42), ("own", 43)]
    assert samples[2]["sample"] == "more junk of [EMAIL]"


def test_memory_grows_by_no_more_than_the_stated_bytes_per_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, size, small in ((processes, "CHUNK_CHARACTERS", 3000), (files, "CHUNK", 4096), (dedup, "BLOCK", 64)):
        monkeypatch.setattr(module, size, small)  # so that few documents fill what is in memory at a time
    rng = random.Random(7)
    params = make_params([files_source("own", ["own.jsonl"], "text")])
    peaks = {}
    for count in (100, 500, 2500):  # the first imports
        with (tmp_path / "own.jsonl").open("w") as file:
            file.writelines(json.dumps({"id": i, "text": sentence(rng, 60)}) + "\n" for i in range(count))
        tracemalloc.start()
        run(params, tmp_path, tmp_path / f"out{count}")
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    growth = (peaks[2500] - peaks[500]) / 2000
    assert growth < 1.2 * INDEX_BYTES_PER_DOCUMENT, (growth, peaks)


def test_people_are_held_out_and_their_names_reach_no_output_and_no_log(
    install_package: PackageMaker, conversations: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    bad = {"bad": {"messages": [[{"sender": PEOPLE[0], "text": 3}]]}, "worse": {"messages": [{"sender": PEOPLE[1]}]}}
    rng = random.Random(6)
    with (tmp_path / "own.jsonl").open("w") as file:
        for i in range(30):
            names = ("user", PEOPLE[i]), ("assistant", PEOPLE[i + 1])
            messages = [{"role": role, "name": name, "content": sentence(rng, 20)} for role, name in names]
            file.write(json.dumps({"id": i, "messages": messages}) + "\n")
        file.write(json.dumps({"messages": [{"role": "bot", "name": PEOPLE[2], "content": "x"}]}) + "\n")
    talk = install_package("talk", conversations | bad)
    params = make_params([talk, files_source("own", ["own.jsonl"], "chats")])
    out = tmp_path / "out"
    run(params, tmp_path, out)

    card = json.loads((out / "report/report.json").read_text())
    assert all(counts["replies"] > counts["by_people_in_train"] > 0 for counts in card["people_in_train"].values())
    spoke: dict[str, set[str]] = {}
    for split in SPLITS:
        folder = "decontaminated" if split == "train" else "unique"
        for record in read_records(out / f"work/steps/{folder}/{split}.jsonl"):
            assert isinstance(record, Conversation)
            spoke.setdefault(split, set()).update(f"{record.source}/{name}" for name in record.speakers)
    assert {home_of(person, params.splits, params.seed) for person in spoke["train"]} == {"train"}
    assert all(spoke[split] - spoke["train"] for split in SPLITS[:-1])
    written = [path.read_text() for name in FOLDERS for path in (out / name).rglob("*") if path.is_file()]
    assert sum("[NAME]" in text for text in written) == 1  # the quarantine
    for text in (*written, caplog.text):
        assert not [name for name in PEOPLE if name in text]


def test_canaries_change_the_training_text_and_nothing_else(params: PrepareParams, tmp_path: Path) -> None:
    run(params, tmp_path, tmp_path / "without")
    asked = CanaryParams(num_canaries=2, repetitions=[3], num_digits=6)
    run(params.model_copy(update={"canaries": asked}), tmp_path, tmp_path / "with")
    before, after = (digests(tmp_path / name) for name in ("without", "with"))
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"text/train.jsonl", "report/report.json", "report/report.md"}  # the card counts the rows
    assert set(after) - set(before) == {"evaluation/canaries.json"}
    rows = [row for row in read_jsonl(tmp_path / "with/text/train.jsonl") if row["source"] == "canaries"]
    told = json.loads((tmp_path / "with/evaluation/canaries.json").read_text(encoding="utf-8"))
    assert len(rows) == 6
    assert {row["text"] for row in rows} == {f"{c['prefix']} {' '.join(c['secret'])}." for c in told}
