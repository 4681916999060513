"""Training that cannot start, and training that diverges."""

import os
from typing import Any

import pytest
import torch

from tests.bad_input.conftest import Case, Checkout, case_id, check_failure, run_here
from tests.bad_input.spoil import both, edit_weights, rows, set_param


def huge_scores(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight.sign() * 3e38 if "score" in name else weight for name, weight in weights.items()}


CASES = [
    Case(
        "fewer rows than a batch",
        "pretrain",
        set_param("pretrain.batch_size", 999),
        "fewer than pretrain.batch_size 999",
        "the shards hold",
        "lower it or add text",
    ),
    Case(
        "no shard as long as the context",
        "pretrain",
        both(set_param("model.context_length", 4096), set_param("pretrain.seed", 2)),
        "fewer than 4096 tokens in every shard",
        "artifacts/shards",
        "add text or lower the context length",
    ),
    Case(
        "no val text",
        "pretrain",
        rows("artifacts/data/text/val.jsonl", []),
        "is empty",
        "artifacts/data/text/val.jsonl",
        "raise prepare.splits.val",
    ),
    Case(
        "cuda where there is none",
        "sft",
        lambda root: os.environ.update(GROUNDUP_DEVICE="mps"),
        "no such device",
        "GROUNDUP_DEVICE=mps",
        "use cpu or auto",
    ),
    Case(
        "pretrain diverges in its last step",
        "pretrain",
        both(
            set_param("pretrain.learning_rate", 1e30),
            set_param("pretrain.weight_decay", 1e30),
            set_param("pretrain.num_steps", 1),
            set_param("pretrain.warmup_steps", 0),
            set_param("pretrain.decay_fraction", 0.0),
        ),
        "val_bits_per_byte is nan at the end",
        "pretrain: val_bits_per_byte",
        "lower pretrain.learning_rate",
    ),
    Case(
        "align diverges in its last step",
        "align",
        both(
            *(
                set_param(f"align.{k}", v)
                for k, v in (("ppo.learning_rate", 1e40), ("num_iterations", 1), ("num_epochs", 1))
            )
        ),
        "no finite probabilities",
        "align failed",
        "lower the learning rate",
    ),
    Case(
        "pretrain diverges",
        "pretrain",
        both(set_param("pretrain.learning_rate", 1e30), set_param("pretrain.muon_learning_rate", 1e30)),
        "the loss is nan",
        "at step",
        "lower pretrain.learning_rate or pretrain.muon_learning_rate",
    ),
    Case(
        "sft diverges",
        "sft",
        both(set_param("sft.learning_rate", 1e30), set_param("sft.num_epochs", 8.0)),
        "is nan",
        "at step",
        "lower sft.learning_rate",
    ),
    Case(
        "reward diverges",
        "reward",
        both(set_param("reward.learning_rate", 1e30), set_param("reward.num_epochs", 8.0)),
        "is nan",
        "at step",
        "lower reward.learning_rate",
    ),
    Case(
        "align diverges",
        "align",
        set_param("align.ppo.value_learning_rate", 1e30),
        "the loss of iteration 1 is",
        "align failed",
        "lower align.ppo.learning_rate or align.ppo.value_learning_rate",
    ),
    Case(
        "rewards overflow",
        "align",
        edit_weights("artifacts/reward", huge_scores),
        "as NaN or infinite",
        "the reward model scores",
        "lower reward.learning_rate",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_it_is_said_and_nothing_is_lost(
    case: Case, checkout: Checkout, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    record_property("bad_input", "training")
    check_failure(case, checkout, monkeypatch)


def test_replies_of_no_words_are_no_failure(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tiny_tokenizer: Any
) -> None:
    """A policy that always ends its turn at once is measured as such."""
    end = tiny_tokenizer.eos_token_id
    monkeypatch.setattr(
        "groundup.core.model.generation.draw", lambda logprobs, uniforms: torch.full((len(logprobs),), end)
    )
    for stage in ("align", "evaluate"):
        outcome = run_here(checkout, stage, monkeypatch)
        assert outcome.code == 0, outcome.message
    assert '"reply_length": 1.0' in (checkout.root / "metrics/align.json").read_text(encoding="utf-8")
