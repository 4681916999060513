"""Byte-level BPE: exact round trips, inert special tokens, nested vocabularies."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import SPECIAL_TOKENS, encode_text
from groundup.core.formats.jsonl import write_jsonl
from groundup.runner.params.training import ScratchTokenizerParams, TokenizerParams
from groundup.tokenizer.tokenizer import train_bpe, train_tokenizer, truncated_bpe
from stages.tokenizer import HEADLINES
from tests.killed_steps import KillBeforeEachRecord, Killed

TEXT = ["the cat sat on the mat and the dog sat on the log", "a cat and a dog and a bird sang the song of the sea"] * 5


@pytest.mark.parametrize(
    "text", ["plain", "  two  spaces \n\n\ttabs", "caf\u00e9 \u4f60\u597d \U0001f600", "\x00\x7f", "<|end|>", ""]
)
def test_every_text_decodes_to_itself(tiny_tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tiny_tokenizer.decode(encode_text(tiny_tokenizer, text)) == text


def test_special_token_strings_in_text_stay_text(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    ids = encode_text(tiny_tokenizer, "".join(SPECIAL_TOKENS))
    assert not set(ids) & set(tiny_tokenizer.all_special_ids)


def test_special_tokens_are_distinct_and_last(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tiny_tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS)
    assert ids == list(range(len(tiny_tokenizer) - 6, len(tiny_tokenizer)))
    assert tiny_tokenizer.eos_token == "<|end|>"
    assert tiny_tokenizer.pad_token_id != tiny_tokenizer.eos_token_id


def test_a_truncated_vocabulary_is_the_one_trained_smaller() -> None:
    large, small = train_bpe(iter(TEXT), 280, 2), train_bpe(iter(TEXT), 268, 2)
    truncated = truncated_bpe(large, 268)
    for text in TEXT:
        assert truncated.encode(text).ids == small.encode(text).ids


def test_training_twice_gives_the_same_bytes() -> None:
    assert train_bpe(iter(TEXT), 280, 2).to_str() == train_bpe(iter(TEXT), 280, 2).to_str()


def test_a_vocabulary_larger_than_the_text_allows_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"vocab_size 5000 is more than the text allows.*gives \d+"):
        train_bpe(iter(TEXT), 5000, 2)


PARAMS = TokenizerParams(
    scratch=ScratchTokenizerParams(vocab_size=280, min_frequency=2, curve_vocab_sizes=[264, 280]), shard_tokens=40
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "text/train.jsonl", ({"text": text, "source": "a"} for text in TEXT))
    write_jsonl(tmp_path / "text/val.jsonl", [{"text": "the cat", "source": "a"}, {"text": "a \u4f60", "source": "b"}])
    write_jsonl(tmp_path / "text/test.jsonl", [{"text": "the dog", "source": "a"}])
    return tmp_path / "text"


def run(text: Path, out: Path) -> dict[str, Any]:
    return train_tokenizer(text, out / "tok", out / "report", out / "shards", PARAMS, 32, out / "work")


def bytes_of(out: Path) -> dict[str, bytes]:
    files = (path for name in ("tok", "report", "shards") for path in (out / name).rglob("*"))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_the_report_measures_held_out_documents(text: Path, tmp_path: Path) -> None:
    metrics = run(text, tmp_path)
    assert metrics["num_round_trip_failures"] == 0
    assert (metrics["num_documents_val"], metrics["num_documents_test"]) == (2, 1)
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path / "tok")
    texts = {"val": ["the cat", "a \u4f60"], "heldout": ["the dog"]}
    ids = {split: [i for text in texts[split] for i in encode_text(fast, text)] for split in texts}
    assert metrics["val_words_per_token"] == round(4 / len(ids["val"]), 4)
    assert metrics["heldout_words_per_token"] == round(2 / len(ids["heldout"]), 4)
    assert metrics["val_bytes_per_token"] == round(12 / len(ids["val"]), 4)
    assert metrics["heldout_bytes_per_token"] == round(7 / len(ids["heldout"]), 4)
    for split, used in ids.items():
        assert metrics[f"{split}_num_unused_tokens"] == len(fast) - 6 - len(set(used))
    report = json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8"))
    assert [point["vocab_size"] for point in report["vocab_size_curve"]] == [264, 280]
    assert report["vocab_size_curve"][0]["val_bytes_per_token"] < report["vocab_size_curve"][1]["val_bytes_per_token"]
    assert report["vocab_size_curve"][1]["val_bytes_per_token"] == report["val_bytes_per_token"]
    assert report["val_bytes_per_token_by_domain"]["b"] == round(5 / len(encode_text(fast, "a \u4f60")), 4)


def test_killed_in_every_step_it_goes_on_there_and_the_bytes_are_the_same(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = run(text, tmp_path / "whole")
    num_steps = 2 + metrics["num_shards"]
    assert num_steps > 5

    kills = KillBeforeEachRecord(monkeypatch)
    for _ in range(num_steps):
        with pytest.raises(Killed):
            run(text, tmp_path / "resumed")
    assert run(text, tmp_path / "resumed") == metrics
    assert kills.reached == kills.recorded == ["merges", "report", *(f"shard-{i:05d}" for i in range(num_steps - 2))]
    assert bytes_of(tmp_path / "resumed") == bytes_of(tmp_path / "whole")


def test_headline_figures_do_not_depend_on_the_test_split(text: Path, tmp_path: Path) -> None:
    before = run(text, tmp_path / "before")
    write_jsonl(text / "test.jsonl", [{"text": "\u4f60 " * 9, "source": "c"}])
    after = run(text, tmp_path / "after")
    assert set(HEADLINES) <= before.keys()
    assert {name: after[name] for name in HEADLINES} == {name: before[name] for name in HEADLINES}
    assert after["heldout_bytes_per_token"] != before["heldout_bytes_per_token"]
    reports = [json.loads((tmp_path / name / "report/report.json").read_text()) for name in ("before", "after")]
    assert reports[0]["vocab_size_curve"] == reports[1]["vocab_size_curve"]


def test_without_test_documents_the_report_has_val_alone(text: Path, tmp_path: Path) -> None:
    (text / "test.jsonl").write_text("")
    metrics = run(text, tmp_path)
    assert not any(name.startswith("heldout_") for name in metrics)
    assert "| | val |\n" in (tmp_path / "report/report.md").read_text(encoding="utf-8")


def test_no_val_text_is_an_error_before_anything_is_divided_by_it(text: Path, tmp_path: Path) -> None:
    (text / "val.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"text: val\.jsonl holds no document.*raise prepare\.splits\.val"):
        run(text, tmp_path)
