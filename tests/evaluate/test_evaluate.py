import functools
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.decoding import METHODS
from groundup.core.training.runtime import draw
from groundup.runner.files import digest_path
from tests.evaluate.judging import PARAMS
from tests.evaluate.pairwise.stub_server import serving
from tests.evaluate.stage import run_evaluate, write_project


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a server of the test's own."""

    def watch(function: Callable[..., Any], place: int) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            address = arguments[place]
            assert "127.0.0.1" in (address, address[0]), "the network was asked for"
            return function(*arguments, **options)

        return watched

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, watch(getattr(socket.socket, name), -1))
    monkeypatch.setattr(socket, "getaddrinfo", watch(socket.getaddrinfo, 0))


class Points:
    def __init__(self) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []

    def __call__(self, step: int, **values: float) -> None:
        self.points.append((step, values))


@pytest.fixture
def project(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    write_project(tmp_path, tiny_model, tiny_tokenizer)
    return tmp_path


def run(project: Path, name: str, log: Points, **changes: Any) -> dict[str, Any]:
    points = project / "align/evaluation_points.jsonl"
    return run_evaluate(project, PARAMS.model_copy(update=changes), log, points=points, out=name)


def test_metrics_files_and_resume(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Points()
    metrics = run(project, "first", log)
    assert set(metrics["base"]) == set(metrics["sft"]) == set(metrics["aligned"])
    assert {
        "bits_per_byte",
        "bits_per_byte_towns",
        "topic_accuracy",
        "topic_accuracy_ci_low",
        "topic_chance",
        "reward_ci_high",
        "kl_to_sft",
        "reply_length",
        "distinct_2",
        "end_of_turn_rate",
    } <= set(metrics["base"])
    language = {name for name in metrics["base"] if name.startswith(("topic", "bits_per_byte"))}
    for baseline in ("untrained", "unigram", "ngram"):
        assert set(metrics[baseline]) == language
    assert metrics["untrained"]["bits_per_byte"] != metrics["base"]["bits_per_byte"]
    # Of three words in a row "the sea is" is in the text, and "do you like" in the preferences.
    shares = {name: share for name, share in metrics.items() if "contamination" in name}
    assert len(shares) == 18  # of the task, bits per byte and the prompts in each training set, and the two of wholes
    assert shares["prompts_contamination_compared_whole"] == 0.5  # two of the four drawn have fewer words than three
    assert (shares["topic_contamination_text"], shares["topic_contamination_preferences"]) == (0.2, 0.4)
    assert shares["topic_contamination_prompts"] == 0.0
    # An aligned model that equals SFT gives the same replies: every pair is a tie.
    assert metrics["aligned"] == metrics["sft"]
    assert [metrics[f"win_rate_vs_sft{end}"] for end in ("", "_ci_low", "_ci_high")] == [0.5, 0.5, 0.5]
    assert metrics["sft"]["kl_to_sft"] == 0.0
    assert metrics["base"]["kl_to_sft"] != 0.0
    assert [metrics[f"win_rate_vs_sft_gold{end}"] for end in ("", "_ci_low", "_ci_high")] == [0.5, 0.5, 0.5]
    assert (metrics["best_of_n_n"], metrics["best_of_n_num_prompts"]) == (1, 2)  # the n with a KL nearest to zero
    assert 0 <= metrics["win_rate_human_vs_sft_gold"] <= 1
    assert metrics["num_human_replies"] == 3  # of the four sampled prompts
    assert metrics["judge_num_conversations"] == 24
    assert (metrics["num_prompts"], metrics["num_documents"]) == (4, 3)
    assert metrics["decoding_num_prompts"] == 2
    assert metrics["decoding_beam_log_prob"] >= metrics["decoding_greedy_log_prob"]
    assert all(metrics[f"decoding_{method}_seconds"] > 0 for method in METHODS)
    assert all(0 < metrics[f"decoding_{method}_tokens"] <= 24 for method in METHODS)
    # Nothing changed in 40 items, and no more than that is shown.
    changed = [round(metrics[f"insult_contagion_change{end}"], 3) for end in ("", "_ci_low", "_ci_high")]
    assert changed == [0.0, -0.088, 0.088]
    assert metrics["insult_contagion_change_num_items"] == 40
    assert [metrics[f"reply_length_change{end}"] for end in ("", "_ci_low", "_ci_high")] == [0.0, 0.0, 0.0]
    assert metrics["distinct_2_change"] == 0.0
    assert metrics["rating_aligned_gold"] == pytest.approx(1000, abs=100)  # it plays itself, and the same others
    assert metrics["gates_passed"] == 1
    assert [step for step, _ in log.points] == [0, 1, 2]
    assert log.points[0][1] == metrics["base"]
    json.dumps(metrics, allow_nan=False)

    def fail(*_: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("groundup.evaluate.evaluate.reply_to_prompts", fail)
    for function in ("contamination.contamination", "best_of_n.reply_pool", "decoding.decode_prompts"):
        monkeypatch.setattr(f"groundup.evaluate.measures.{function}", fail)
    for function in ("choice_result", "text_result", "training_tokens"):
        monkeypatch.setattr(f"groundup.evaluate.harness.suite.{function}", fail)
    assert run(project, "second", Points()) == metrics
    first, second = ({p.name: p.read_bytes() for p in (project / name).iterdir()} for name in ("first", "second"))
    assert first == second
    rows = {"replies.jsonl", "decoding.jsonl"}
    assert set(first) == {"page.json", "probes.json", "ratings.json", "gates.json"} | rows
    page = json.loads(first["page.json"])
    assert [section["title"] for section in page["sections"]] == [
        "Gold judge", "Replies", "Does the gold judge follow?", "Tasks", "Values", "Decoding", "Ratings", "Gates",
        "Side by side",
    ]  # fmt: skip
    assert len(page["sections"][-1]["samples"]) == 2
    assert any("3 of the 5 documents" in line for line in page["method"])

    failing = [PARAMS.gates[0], PARAMS.gates[0].model_copy(update={"limit": -1.0})]
    with serving() as stub:
        monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
        judged = run(project, "third", Points(), judge="openai", gates=failing)
    assert {name for name in metrics if metrics[name] != judged[name]} == {"gates_passed"}
    assert judged["gates_passed"] == 0
    assert judged["num_verdicts_openai"] > 0
    gates = json.loads((project / "third/gates.json").read_text(encoding="utf-8"))
    assert [gate["passed"] for gate in gates] == [True, False]
    assert gates[1]["reason"] == "aligned.kl_to_sft is 0 and must be at most -1"


def test_an_unknown_task_is_said_before_anything_is_computed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = functools.partial(TaskManager, include_defaults=False)
    monkeypatch.setattr("groundup.evaluate.harness.named.TaskManager", manager)
    with pytest.raises(ValueError, match=r"no task one: .*\n.*no task two: "):
        run(project, "out", Points(), tasks=["one", "two"])
    assert not (project / "evaluate_work").exists()


def test_without_conversations_a_sentence_says_why_there_is_no_gold(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "judge/conversations.jsonl").write_text("", encoding="utf-8")

    def fail(*_: Any) -> None:
        raise AssertionError("a pool that nobody judges")

    monkeypatch.setattr("groundup.evaluate.measures.best_of_n.reply_pool", fail)
    metrics = run(project, "out", Points())
    assert not [name for name in metrics if "gold" in name or "judge" in name or name.startswith("best_of_n")]
    page = json.loads((project / "out/page.json").read_text(encoding="utf-8"))
    assert any("There is no gold judge (a judge needs at least 20 replies" in said for said in page["sentences"])
    titles = [section["title"] for section in page["sections"]]
    assert titles == ["Replies", "Tasks", "Values", "Decoding", "Gates", "Side by side"]


def test_a_model_as_judge_gives_gold_figures_with_controls_and_intervals(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project / "base"
    pinned = {"path": "models/own", "digest": digest_path(folder)}
    chosen = {"judge": "model", "model_judge": PARAMS.model_judge.model_copy(update=pinned)}
    metrics = run(project, "first", Points(), **chosen)
    assert (metrics["judge_num_pairs"], metrics["judge_num_conversations"]) == (24, 24)
    assert metrics["judge_agreement_ci_low"] <= metrics["judge_agreement"] <= metrics["judge_agreement_ci_high"]
    assert [metrics[f"win_rate_vs_sft_gold{end}"] for end in ("", "_ci_low", "_ci_high")] == [0.5, 0.5, 0.5]
    assert metrics["win_rate_echo_vs_sft_gold"] < 0.5
    human = [metrics[f"win_rate_human_vs_sft_gold{end}"] for end in ("_ci_low", "", "_ci_high")]
    assert 0 <= human[0] <= human[1] <= human[2] <= 1
    for name in ("constant", "two_constants", "echo", "template"):
        figures = (
            f"win_rate_{name}_vs_sft_gold{which}{end}" for which in ("", "_uncentred") for end in ("", "_ci_low")
        )
        assert all(0 <= metrics[figure] <= 1 for figure in figures)
    assert {"win_rate_vs_sft_gold_moved", "num_controls_that_win", "val_win_rate_vs_sft_gold"} <= set(metrics)
    assert {"rating_human_gold", "best_of_n_gold_ci_low", "decoding_tree_gold"} <= set(metrics)
    json.dumps(metrics, allow_nan=False)
    page = json.loads((project / "first/page.json").read_text(encoding="utf-8"))
    (said,) = [line for line in page["method"] if line.startswith("Gold judge:")]
    assert said.startswith(
        f"Gold judge: the language model in models/own (sha256 {digest_path(folder)}), fitted on no"
    )
    assert "Intervals of gold figures are over other prompts alone" in said
    assert "discriminant" not in said
    assert "It is not independent of the models it judges: its weights are those of the base model." in said
    assert "The gold judge is a language model. It is not independent" in " ".join(page["sentences"])
    (gold,) = [section for section in page["sections"] if section["title"] == "Gold judge"]
    assert gold["hint"].startswith("It is not independent of the models it judges: ")

    def fail(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("groundup.evaluate.model_judge.logprobs.logprobs", fail)
    assert run(project, "second", Points(), **chosen) == metrics
    assert (project / "second/page.json").read_bytes() == (project / "first/page.json").read_bytes()


def test_a_judge_that_cannot_judge_is_said_before_anything_is_computed(project: Path) -> None:
    with pytest.raises(ValueError, match=r"its digest is [0-9a-f]{64} and evaluate\.model_judge\.digest is null"):
        run(project, "out", Points(), judge="model")
    assert not (project / "evaluate_work").exists()


def test_models_of_different_tokenizers_are_refused(project: Path) -> None:
    path = project / "reward/tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = values["model"]["vocab"]
    vocabulary["ell"], vocabulary["rou"] = vocabulary["rou"], vocabulary["ell"]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match="the tokenizer of reward differs"):
        run(project, "out", Points())


def test_draw_evenly_keeps_order_and_takes_all_when_few() -> None:
    rows = [{"id": i} for i in range(100)]
    drawn = [row["id"] for row in draw(rows, 10, seed=1)]
    assert len(drawn) == 10
    assert drawn == sorted(drawn)
    assert draw(rows, 1000, seed=1) == rows
