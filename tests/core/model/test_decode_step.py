"""A decode step gives the same result as a forward pass of whole sequences."""

import copy
from itertools import chain

import pytest
import torch
from transformers import LlamaForCausalLM

from groundup.core.model.cache import prefill_fast
from groundup.core.model.decode_step import DecodeStep
from groundup.core.model.forward import PackedAttention, hidden_states
from groundup.core.training.adapters import add_adapter
from groundup.runner.params.training import LoraParams
from tests.core.model.test_forward import llama
from tests.core.model.variants import make_model

SEQUENCES = [[7, 8, 9, 10, 11], [20, 30, 40, 50, 60, 21, 31], [5, 6, 7]]
LORA = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"])
NUM_NEW = 2  # the last tokens of each sequence


def whole(model: LlamaForCausalLM) -> torch.Tensor:
    """Final hidden states of the last token of each sequence [B, H]."""
    attention = PackedAttention([len(sequence) for sequence in SEQUENCES], model.device)
    ids = torch.tensor(list(chain.from_iterable(SEQUENCES)))
    return hidden_states(model.model, ids, attention, attention.ends)


def token_by_token(model: LlamaForCausalLM) -> torch.Tensor:
    cache, hidden = prefill_fast(model.model, [sequence[:-NUM_NEW] for sequence in SEQUENCES], NUM_NEW)
    decode_step = DecodeStep(model.model, max(map(len, SEQUENCES)))
    for i in range(NUM_NEW):
        hidden = decode_step(cache, torch.tensor([sequence[i - NUM_NEW] for sequence in SEQUENCES]))
    return hidden


@pytest.mark.parametrize("packed_numbers", [1, 2**18])
@pytest.mark.parametrize("num_kv_heads", [4, 2])
@torch.no_grad()
def test_equals_the_pass_of_whole_sequences(
    monkeypatch: pytest.MonkeyPatch, num_kv_heads: int, packed_numbers: int
) -> None:
    monkeypatch.setattr("groundup.core.model.projection.PACKED_NUMBERS", packed_numbers)
    model = make_model("rope", "softmax", num_kv_heads)
    assert torch.allclose(token_by_token(model), whole(model), atol=1e-5)


@torch.no_grad()
def test_biases_and_other_activations_count() -> None:
    model = llama(num_kv_heads=1, attention_bias=True)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    assert torch.allclose(token_by_token(model), whole(model), atol=1e-5)
    add_adapter(model, LORA)
    assert torch.allclose(token_by_token(model), whole(model), atol=1e-5)


@torch.no_grad()
def test_an_adapter_counts_where_it_is_switched_on() -> None:
    model = make_model("rope", "softmax", 2)
    plain = whole(model)
    adapter = add_adapter(model, LORA)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    assert not torch.allclose(whole(model), plain, atol=1e-2)
    assert torch.allclose(token_by_token(model), whole(model), atol=1e-5)
    with adapter.disable_adapter():
        assert torch.allclose(token_by_token(model), plain, atol=1e-5)


@torch.no_grad()
def test_takes_the_weights_as_they_are_when_it_is_made() -> None:
    model = make_model("rope", "softmax", 4)
    changed = copy.deepcopy(model)
    changed.model.layers[0].mlp.up_proj.weight.mul_(2)
    assert not torch.allclose(token_by_token(changed), token_by_token(model), atol=1e-3)
    assert torch.allclose(token_by_token(changed), whole(changed), atol=1e-5)


@torch.no_grad()
def test_follows_fp32_under_autocast() -> None:
    model = make_model("rope", "softmax", 4)
    with torch.autocast("cpu", torch.bfloat16):
        halves = token_by_token(model)
    assert halves.dtype == torch.float32  # the residual stream is not rounded
    assert 0 < (halves - whole(model)).abs().max() < 0.1
