"""Every method on models with sinusoidal positions, linear attention, grouped queries and untied embeddings."""

import math

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.model.llama import load_causal_lm
from tests.align.conftest import LORA, AlignRun, Recorder
from tests.align.methods.test_methods import settings
from tests.core.model.variants import variant_model


@pytest.fixture
def tiny_model(tiny_tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return variant_model(tiny_tokenizer, initializer_range=0.1)


@pytest.mark.parametrize(
    "changes",
    [{"lora": LORA}, {"ppo": {"value_trunk": "shared"}}, settings("rloo"), settings("grpo"), settings("dpo")],
    ids=["lora", "shared trunk", "rloo", "grpo", "dpo"],
)
def test_it_trains_and_stays_what_it_is(run_align: AlignRun, changes: dict[str, object]) -> None:
    curve = Recorder()
    run_align("run", curve, num_iterations=2, checkpoint_every=2, **changes)
    assert math.isfinite(curve.points[2]["policy_loss"])
    saved = load_causal_lm(run_align.root / "run/out", torch.device("cpu"))
    assert (saved.config.position, saved.config.attention) == ("sinusoidal", "linear")
    if "method" not in changes:  # sampling uses the recurrence, scoring the matrices: they agree
        assert curve.points[1]["kl"] == pytest.approx(0, abs=1e-5)
