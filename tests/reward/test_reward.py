"""Reward model: learns from pairs, resumes to the same bytes, reports on all kinds of pairs."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.model.llama import save_model
from groundup.core.model.scoring import RewardScorer
from groundup.core.model.variational import FILE
from groundup.core.training.cost import read_cost
from groundup.reward import reward
from groundup.reward.pair_trainer import PairTrainer
from groundup.reward.pairs import REPEAT, Pair
from groundup.reward.reward import draw_pairs, train_reward, trained_groups
from groundup.runner.interruption import Terminated
from groundup.runner.params.training import LoraParams, RewardParams
from tests.families import family_model
from tests.presets import preset
from tests.resume import Crash, Curve, names, saved_bytes

PARAMS = preset("smoke")
REWARD = PARAMS.reward.model_copy(
    update={
        "max_pairs": None,
        "max_relevance_pairs": None,
        "sampled": PARAMS.reward.sampled.model_copy(update={"weight": 0.0}),
        "num_epochs": 8.0,
        "batch_size": 8,
        "max_length": 64,
        "learning_rate": 3e-3,
        "validate_every": 10,
        "checkpoint_every": 5,
        "log_every": 1,
    }
)
WITH_SAMPLED = PARAMS.reward.sampled.model_copy(update={"weight": 1.0, "max_heldout_pairs": 12})
VARIATIONAL = REWARD.model_copy(update={"head": "variational"})


def pair(i: int, good: str = "yes I like music very much", bad: str = "no the old town is green") -> dict[str, Any]:
    question = {"role": "user", "content": f"question {i}"}
    return {
        "id": str(i),
        "source": "a",
        "kind": "rating",
        "chosen": [question, {"role": "assistant", "content": good}],
        "rejected": [question, {"role": "assistant", "content": bad}],
        "margin": 0.2,
        "chosen_id": f"c{i % 7}",
        "rejected_id": f"r{i % 5}",
        "chosen_rating": 8.0,
        "rejected_rating": 6.0,
        "wrong_from": "elsewhere",  # read of relevance pairs alone
    }


def prompt(i: int, reply: str | None = "the sea is warm there") -> dict[str, Any]:
    messages = [{"role": "user", "content": f"question {i}"}]
    return {"id": str(i), "conversation_id": f"p{i}", "source": "a", "messages": messages, "reply": reply}


class Stopped(Exception):
    pass


def stop(**settings: Any) -> None:
    raise Stopped


def write_inputs(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    save_model(model, tokenizer, folder / "sft", "card")
    for split in ("train", "val", "test"):
        write_jsonl(folder / f"preferences/{split}.jsonl", (pair(i) for i in range(32)))
        write_jsonl(folder / f"prompts/{split}.jsonl", (prompt(i) for i in range(20)))
    return {name: folder / name for name in ("sft", "preferences", "prompts")}


@pytest.fixture
def inputs(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> dict[str, Path]:
    return write_inputs(tmp_path, tiny_model, tiny_tokenizer)


def run(inputs: dict[str, Path], folder: Path, log: Curve, params: RewardParams = REWARD) -> dict[str, Any]:
    return train_reward(
        **inputs,
        out=folder / "out",
        report=folder / "report",
        params=params,
        runtime=PARAMS.runtime.model_copy(update={"num_threads": 1}),
        device="cpu",
        checkpoints=log.checkpoints(folder),
        log=log,
    )


def test_it_learns_which_side_people_prefer(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = run(inputs, tmp_path, Curve())
    assert metrics["heldout_accuracy"] == 1.0
    assert metrics["beats_length_only"] == (metrics["length_only_accuracy"] < 1.0)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert loaded.config.attention_dropout == 0.0
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["heldout_accuracy_ci_low"] == metrics["heldout_accuracy_ci_low"]
    cost = read_cost(tmp_path / "report")
    assert cost is not None
    assert (metrics["flops"], cost.num_read_tokens) == (6 * cost.num_parameters * cost.num_learned_tokens, 0)
    assert "_seconds" not in str(report.keys())


@pytest.mark.parametrize("base", [REWARD, VARIATIONAL], ids=["linear", "variational"])
def test_a_killed_run_goes_on_to_the_same_bytes(base: RewardParams, inputs: dict[str, Path], tmp_path: Path) -> None:
    """Killed twice, then asked to end, with dropout, drawn rewards and rows that are means over two steps.

    Half of the pairs get the wrong replies of others.
    """
    said = ["the sea is warm there", "I am well", "thank you for asking", "at home"]
    rows = [*(pair(i) for i in range(16)), *(relevance(i, said[i % 4]) for i in range(16))]
    write_jsonl(inputs["preferences"] / "train.jsonl", rows)
    params = base.model_copy(update={"dropout": 0.1, "log_every": 2, "checkpoint_every": 6})
    whole, cut = Curve(), Curve()
    expected = run(inputs, tmp_path / "whole", whole, params)
    for crash_at, left in ((2, []), (16, ["checkpoint-12", "checkpoint-6"])):
        cut.crash_at = crash_at
        with pytest.raises(Crash):
            run(inputs, tmp_path / "cut", cut, params)
        assert names(tmp_path / "cut") == left
    cut.end_at = 14
    with pytest.raises(Terminated):
        run(inputs, tmp_path / "cut", cut, params)
    assert names(tmp_path / "cut") == ["checkpoint-12", "checkpoint-16"]
    metrics = run(inputs, tmp_path / "cut", cut, params)
    assert saved_bytes(tmp_path / "cut") == saved_bytes(tmp_path / "whole")
    if base is VARIATIONAL:
        assert (tmp_path / "cut/out" / FILE).read_bytes() == (tmp_path / "whole/out" / FILE).read_bytes()
    assert cut.rows == whole.rows
    assert metrics["heldout_accuracy"] == expected["heldout_accuracy"]


def test_a_score_does_not_depend_on_the_batch(
    inputs: dict[str, Path], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    scorer = RewardScorer.load(inputs["sft"], torch.device("cpu"))
    chats = [render(tiny_tokenizer, pair(i, good="yes " * (i + 1))["chosen"], reply_next=False) for i in range(5)]
    together, std = scorer.score(chats)
    alone = torch.cat([scorer.score([chat])[0] for chat in chats])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert std.tolist() == [0.0] * 5


def relevance(i: int, good: str = "the sea is warm there") -> dict[str, Any]:
    return pair(i, good=good, bad="hello there how are you") | {"kind": "relevance", "margin": 0.0}


def test_the_variational_head_learns_too_and_says_how_sure_it_is(inputs: dict[str, Path], tmp_path: Path) -> None:
    log = Curve()
    metrics = run(inputs, tmp_path, log, VARIATIONAL)
    assert metrics["heldout_accuracy"] == 1.0
    assert metrics["uncertainty_error_spearman"] is None  # no pair is wrong
    assert 0 <= metrics["ood_auroc_foreign_ci_low"] <= metrics["ood_auroc_foreign"] <= 1
    mean, std = RewardScorer.load(tmp_path / "out", torch.device("cpu")).score([[1, 2, 3], [4, 5]])
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert torch.equal(mean, RewardScorer(stock).score([[1, 2, 3], [4, 5]])[0])
    assert (std > 0).all()
    assert {"latent_std", "latent_kl"} <= log.rows[1].keys()
    report = (tmp_path / "report/report.md").read_text()
    assert "## Uncertainty" in report
    card = (tmp_path / "out/README.md").read_text()
    assert "variational.safetensors" in card
    assert "gates.json" in card
    assert (tmp_path / "out/gates.json").exists()


def test_relevance_pairs_are_a_second_source_with_an_accuracy_of_its_own(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    for split in ("train", "val", "test"):
        rows = [*(pair(i) for i in range(24)), *(relevance(i) for i in range(16))]
        write_jsonl(inputs["preferences"] / f"{split}.jsonl", rows)
    log = Curve()
    metrics = run(inputs, tmp_path, log, REWARD.model_copy(update={"max_relevance_pairs": 8}))
    assert metrics["heldout_relevance_accuracy"] == metrics["heldout_accuracy"] == 1.0
    assert (metrics["num_pairs_train"], metrics["train_relevance_accuracy_num_items"]) == (24, 8)
    assert (metrics["num_pairs_test"], metrics["heldout_relevance_accuracy_num_items"]) == (24, 16)
    # prepare's name for pairs of this kind, in use or not, repeats and same openings among them
    assert not any(name.startswith("num_relevance_pairs") for name in metrics)
    assert "val_relevance_accuracy" in log.rows[max(log.rows)]
    assert "| a person's from another conversation | 16 | 1.000 " in (tmp_path / "report/report.md").read_text()


def test_one_kind_of_pairs_alone_is_trained_on_and_said(
    inputs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    short = VARIATIONAL.model_copy(update={"num_epochs": 1.0})
    for split in ("train", "val", "test"):
        rows = (pair(i) | {"kind": "given", "chosen_rating": None, "rejected_rating": None} for i in range(8))
        write_jsonl(inputs["preferences"] / f"{split}.jsonl", rows)
    given = run(inputs, tmp_path / "given", Curve(), short)
    assert not any("relevance_accuracy" in name for name in given)
    assert "0 train, 0 val, 0 test relevance pairs" in caplog.text
    assert "no rated or given pairs" not in caplog.text
    report = (tmp_path / "given/report/report.md").read_text()
    assert "| a person's from another conversation | 0 | - | - | - | - | - |" in report
    for split in ("train", "val", "test"):
        write_jsonl(inputs["preferences"] / f"{split}.jsonl", (relevance(i) for i in range(16)))
    alone = run(inputs, tmp_path / "alone", Curve(), short)
    assert alone["heldout_relevance_accuracy"] == alone["heldout_accuracy"]
    assert "ood_auroc_foreign" in alone
    assert "no rated or given pairs in train and val and test: the report" in caplog.text


def test_a_weight_of_zero_leaves_relevance_pairs_out_of_training() -> None:
    pairs = [
        Pair([1], [2], {"kind": kind, "wrong_from": "elsewhere"})
        for kind in ("rating", "relevance", "given", "relevance")
    ]

    def kinds(rows: list[Pair], **update: Any) -> list[str]:
        return sorted(pair.row["kind"] for pair in draw_pairs(rows, REWARD.model_copy(update=update)))

    assert kinds(pairs) == ["given", "rating", "relevance", "relevance"]
    assert kinds(pairs, relevance_weight=0.0) == ["given", "rating"]
    assert kinds(pairs, max_relevance_pairs=1) == ["given", "rating", "relevance"]
    assert kinds(pairs, max_pairs=1)[1:] == ["relevance", "relevance"]
    with pytest.raises(
        ValueError, match=r"all training pairs are relevance pairs, but reward\.relevance_weight is 0: raise it"
    ):
        kinds(pairs[1::2], relevance_weight=0.0)


def test_repeats_are_trained_on_where_params_ask_for_them() -> None:
    pairs = [
        Pair([1], [2], {"kind": "relevance", "wrong_from": wrong}) for wrong in ("elsewhere", *["earlier_turn"] * 3)
    ]

    def repeats(number: int, weight: float = 1.0) -> int:
        params = REWARD.model_copy(update={"max_repeat_pairs": number, "relevance_weight": weight})
        loaded = [pair for pair in pairs if pair.group in trained_groups(params)]
        return sum(pair.group == REPEAT for pair in (draw_pairs(loaded, params) if loaded else []))

    assert [repeats(number) for number in (0, 2, 9)] == [0, 2, 3]
    assert repeats(2, weight=0.0) == 0


def test_half_the_weight_is_another_model(inputs: dict[str, Path], tmp_path: Path) -> None:
    rows = [*(pair(i) for i in range(8)), *(relevance(i) for i in range(8))]
    write_jsonl(inputs["preferences"] / "train.jsonl", rows)
    for weight in (1.0, 0.5):
        run(inputs, tmp_path / f"{weight}", Curve(), REWARD.model_copy(update={"relevance_weight": weight}))
    assert saved_bytes(tmp_path / "1.0") != saved_bytes(tmp_path / "0.5")


def test_what_people_say_is_told_from_what_the_sft_model_says(inputs: dict[str, Path], tmp_path: Path) -> None:
    log = Curve()
    metrics = run(inputs, tmp_path, log, REWARD.model_copy(update={"sampled": WITH_SAMPLED}))
    counts = (metrics[f"{split}_sampled_accuracy_num_items"] for split in ("train", "val", "heldout"))
    assert tuple(counts) == (20, 12, 12)
    assert metrics["heldout_sampled_accuracy"] > 0.9  # noise of a random model against one sentence
    assert metrics["heldout_accuracy"] == 1.0
    assert "val_sampled_accuracy" in log.rows[max(log.rows)]
    assert "| the SFT model's | 12 | " in (tmp_path / "report/report.md").read_text()


def test_a_template_that_changes_prompts_is_refused_before_anything_is_sampled(
    inputs: dict[str, Path],
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.content }}{{ '?' if messages | length == 1 }}{% endfor %}<|end|>"
    )
    save_model(tiny_model, tokenizer, inputs["sft"], "card")
    read = (pair(i) | {"kind": "relevance"} for i in range(32))
    write_jsonl(inputs["preferences"] / "train.jsonl", read)
    sampled: list[str] = []
    monkeypatch.setattr(reward, "sample_all", lambda *args: sampled.append("") or {})
    params = REWARD.model_copy(update={"sampled": WITH_SAMPLED, "num_wrong_replies": 3})
    with pytest.raises(ValueError, match=r"changes a prompt once its reply follows.*num_wrong_replies to 1"):
        run(inputs, tmp_path / "several", Curve(), params)
    assert sampled == []
    monkeypatch.setattr(reward, "PairTrainer", stop)
    with pytest.raises(Stopped):
        run(inputs, tmp_path / "one", Curve(), params.model_copy(update={"num_wrong_replies": 1}))
    assert sampled == [""]


def test_the_arithmetic_counts_a_conversation_once_for_all_its_replies(
    inputs: dict[str, Path], tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    replies = ["yes", "no", "well", "the sea"]
    rows = [relevance(i, reply) for i, reply in enumerate(replies)]
    write_jsonl(inputs["preferences"] / "train.jsonl", rows)
    params = REWARD.model_copy(update={"num_epochs": 2.0, "num_wrong_replies": 3})
    run(inputs, tmp_path, Curve(), params)
    cost = read_cost(tmp_path / "report")
    assert cost is not None

    def length(i: int, reply: str | None) -> int:
        row = relevance(i, reply or "")["chosen"]
        return len(render(tiny_tokenizer, row if reply else row[:-1], reply_next=reply is None))

    prompts = [length(i, None) for i in range(4)]
    own = [length(i, reply) - prompts[i] for i, reply in enumerate(replies)]
    wrong = length(0, "hello there how are you") - prompts[0]
    others = sum(own[(i + k) % 4] for i in range(4) for k in (1, 2))
    assert cost.num_learned_tokens == 2 * (sum(prompts) + sum(own) + 4 * wrong + others)


def test_no_dropout_of_attention_leaves_that_of_adapters(
    inputs: dict[str, Path], tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But no other one of the architecture: GPT-2 has three more."""
    model = family_model("gpt2", len(tiny_tokenizer), pad_token_id=tiny_tokenizer.pad_token_id)
    save_model(model, tiny_tokenizer, inputs["sft"], "card")
    rates: dict[str, float] = {}

    def fit(trainer: PairTrainer, *unused: Any, **also_unused: Any) -> float:  # a merge follows, which ends adapters
        modules = trainer.model.named_modules()
        rates.update({name: module.p for name, module in modules if isinstance(module, nn.Dropout)})
        return 0.0

    monkeypatch.setattr("groundup.reward.reward.fit", fit)
    lora = LoraParams(rank=2, alpha=4.0, dropout=0.3, target_modules="all-linear")
    run(inputs, tmp_path, Curve(), REWARD.model_copy(update={"dropout": 0.0, "lora": lora}))
    assert {rate for name, rate in rates.items() if "lora_dropout" in name} == {0.3}
    assert {rate for name, rate in rates.items() if "lora_dropout" not in name} == {0.0}


def test_batch_and_accumulation_trade_places(inputs: dict[str, Path], tmp_path: Path) -> None:
    """A step's gradient is a mean over its pairs, in however many forward passes they are read."""
    write_jsonl(inputs["preferences"] / "train.jsonl", (pair(i, good="yes " * (1 + i)) for i in range(8)))
    saved = {}
    for size, accumulate in ((8, 1), (4, 2)):
        changes = {"num_epochs": 2.0, "dropout": 0.0, "batch_size": size, "accumulate": accumulate}
        metrics = run(inputs, tmp_path / f"{size}", Curve(), REWARD.model_copy(update=changes))
        assert metrics["num_steps"] == 2
        saved[size, accumulate] = load_file(tmp_path / f"{size}/out/model.safetensors")
    for name, weight in saved[8, 1].items():
        torch.testing.assert_close(saved[4, 2][name], weight, atol=1e-4, rtol=0.0)
