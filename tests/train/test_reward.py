"""Reward model: learns a plain preference, counts ties and long pairs, scores without regard to padding."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.data.jsonl import write_jsonl
from groundup.frame.interruption import Terminated
from groundup.frame.params import load_params
from groundup.frame.params.training import RewardParams
from groundup.model.chat_format import render
from groundup.model.llama import save_model
from groundup.model.scoring import RewardScorer
from groundup.train.reward import Pair, group_by_length, load_pairs, train_reward
from tests.conftest import ROOT
from tests.train.resume import Crash, Curve, names, saved_bytes

PARAMS = load_params(ROOT / "presets/smoke.yaml")
REWARD = PARAMS.reward.model_copy(
    update={
        "max_pairs": None,
        "num_epochs": 8.0,
        "batch_size": 8,
        "max_length": 64,
        "learning_rate": 3e-3,
        "validate_every": 10,
        "checkpoint_every": 5,
        "log_every": 1,
    }
)


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
    }


@pytest.fixture
def inputs(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> dict[str, Path]:
    save_model(tiny_model, tiny_tokenizer, tmp_path / "sft", "card")
    for split in ("train", "val", "test"):
        write_jsonl(tmp_path / f"preferences/{split}.jsonl", (pair(i) for i in range(32)))
    return {"sft": tmp_path / "sft", "preferences": tmp_path / "preferences"}


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
    assert "_seconds" not in str(report.keys())


def test_a_killed_run_goes_on_to_the_same_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Killed twice, then asked to end, with dropout and rows that are means over two steps."""
    params = REWARD.model_copy(update={"dropout": 0.1, "log_every": 2, "checkpoint_every": 6})
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
    assert cut.rows == whole.rows
    assert metrics["heldout_accuracy"] == expected["heldout_accuracy"]


def test_pairs_over_the_limit_are_counted_and_none_left_is_an_error(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", [pair(0), pair(1, bad="x " * 200)])
    pairs, num_too_long = load_pairs(tmp_path / "pairs.jsonl", tiny_tokenizer, 64)
    assert (len(pairs), num_too_long) == (1, 1)
    with pytest.raises(ValueError, match=r"none of 2 preference pairs fits reward\.max_length 4; raise it"):
        load_pairs(tmp_path / "pairs.jsonl", tiny_tokenizer, 4)


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


def test_batches_hold_pairs_of_like_length_in_random_order() -> None:
    pairs = [Pair([0] * (1 + i * 37 % 100), [0], 0.0, {}) for i in range(103)]
    ordered = group_by_length(pairs, 10, seed=1)
    assert sorted(len(p.chosen) for p in ordered) == sorted(len(p.chosen) for p in pairs)
    spans = [
        max(len(p.chosen) for p in ordered[i : i + 10]) - min(len(p.chosen) for p in ordered[i : i + 10])
        for i in range(0, 100, 10)
    ]
    assert max(spans) <= 12
    longest = [len(ordered[i].chosen) for i in range(0, 100, 10)]
    assert longest != sorted(longest)
    assert ordered == group_by_length(pairs, 10, seed=1)
    assert ordered != group_by_length(pairs, 10, seed=2)
