"""Training that cannot start, and training that diverges."""

import os
from typing import Any

import pytest
import torch

from tests.bad_input.conftest import Case, Checkout, each_fails_clearly, run_here
from tests.bad_input.spoil import edit_weights, rows, set_param, set_params

pytestmark = pytest.mark.tried("bad input", "training")


def huge_scores(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight.sign() * 3e38 if "score" in name else weight for name, weight in weights.items()}


CASES = [
    Case("fewer rows than a batch", "pretrain", set_param("pretrain.batch_size", 999),
         "fewer than pretrain.batch_size 999 | the shards hold | lower it or add text"),
    Case("no shard as long as the context", "pretrain",
         set_params({"model.context_length": 4096, "pretrain.seed": 2}),
         "fewer than 4096 tokens in every shard | artifacts/shards | add text or lower the context length"),
    Case("no val text", "pretrain", rows("artifacts/data/text/val.jsonl", []),
         "pretrain has no text for val | raise prepare.splits.val | `dvc repro tokenizer`"),
    Case("cuda where there is none", "sft", lambda root: os.environ.update(GROUNDUP_DEVICE="mps"),
         "no such device | GROUNDUP_DEVICE=mps | use cpu or auto"),
    Case("pretrain diverges in its last step", "pretrain", set_params({
        "pretrain.learning_rate": 1e30, "pretrain.weight_decay": 1e30, "pretrain.num_steps": 1,
        "pretrain.warmup_steps": 0, "pretrain.decay_fraction": 0.0}),
         "val_bits_per_byte is nan at the end | pretrain: val_bits_per_byte | lower pretrain.learning_rate"),
    Case("align diverges in its last step", "align",
         set_params({"align.ppo.learning_rate": 1e40, "align.num_iterations": 1, "align.num_epochs": 1}),
         "no finite probabilities | align failed | lower the learning rate"),
    Case("pretrain diverges", "pretrain",
         set_params({"pretrain.learning_rate": 1e30, "pretrain.muon_learning_rate": 1e30}),
         "gradients is nan | at step | lower pretrain.learning_rate or pretrain.muon_learning_rate"),
    Case("sft diverges", "sft", set_params({"sft.learning_rate": 1e30, "sft.num_epochs": 8.0}),
         "is nan | at step | lower sft.learning_rate"),
    Case("reward diverges", "reward", set_params({"reward.learning_rate": 1e30, "reward.num_epochs": 8.0}),
         "is nan | at step | lower reward.learning_rate"),
    Case("align diverges", "align", set_param("align.ppo.value_learning_rate", 1e30),
         "the loss of iteration 1 is | align failed | lower align.ppo.learning_rate or align.ppo.value_learning_rate"),
    Case("rewards overflow", "align", edit_weights("artifacts/reward", huge_scores),
         "as NaN or infinite | the reward model scores | lower reward.learning_rate"),
]  # fmt: skip

test_it_is_said_and_nothing_is_lost = each_fails_clearly(CASES)


def test_replies_of_no_words_are_no_failure(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tiny_tokenizer: Any
) -> None:
    """A policy that always ends its turn at once is measured correctly."""
    end = tiny_tokenizer.eos_token_id
    monkeypatch.setattr(
        "groundup.core.model.generation.sample_tokens", lambda shares, uniforms: torch.full((len(shares),), end)
    )
    for stage in ("align", "evaluate"):
        outcome = run_here(checkout, stage, monkeypatch)
        assert outcome.code == 0, outcome.message
    assert '"reply_length": 1.0' in (checkout.root / "artifacts/reports/align/metrics.json").read_text(
        encoding="utf-8"
    )
