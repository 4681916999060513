"""The forward pass without padding is the stock one, but for rounding."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from groundup.core.model.forward import PackedAttention, hidden_states, make_cache
from tests.core.model.variants import make_model

CPU = torch.device("cpu")
SEQUENCES = [[7, 8, 9, 11, 1], [5], [20, 30, 40]]


def llama(num_kv_heads: int, attention_bias: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=num_kv_heads,
        max_position_embeddings=64,
        initializer_range=0.3,
        attention_bias=attention_bias,
        mlp_bias=attention_bias,
        hidden_act="gelu" if attention_bias else "silu",
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0},
    )
    return LlamaForCausalLM(config).eval()


MODELS = pytest.mark.parametrize(
    "model",
    [
        *(llama(num_kv_heads, bias) for num_kv_heads, bias in ((4, False), (2, False), (1, True))),
        *(make_model(position, "linear", num_kv_heads=2) for position in ("rope", "sinusoidal")),
        make_model("sinusoidal", "softmax", num_kv_heads=1, tie_embeddings=False),
    ],
    ids=["plain", "grouped", "biases", "linear", "sinusoidal-linear", "sinusoidal"],
)


@MODELS
def test_packed_sequences_equal_each_alone(model: LlamaForCausalLM) -> None:
    ids = torch.tensor([token for sequence in SEQUENCES for token in sequence])
    attention = PackedAttention([len(sequence) for sequence in SEQUENCES], CPU)
    packed = hidden_states(model.model, ids, attention, torch.arange(len(ids)))
    alone = torch.cat([model.model(torch.tensor([sequence])).last_hidden_state[0] for sequence in SEQUENCES])
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)
    places = torch.tensor([8, 0, 3])
    torch.testing.assert_close(hidden_states(model.model, ids, attention, places), alone[places], atol=1e-5, rtol=1e-5)


@MODELS
@torch.no_grad()
def test_token_by_token_with_a_cache_equals_all_at_once(model: LlamaForCausalLM) -> None:
    new = torch.tensor([[2, 3, 4], [5, 6, 7], [8, 9, 10]])
    lengths = [len(sequence) for sequence in SEQUENCES]
    cache = make_cache(model.config, lengths, max_new_tokens=3, device=CPU)
    prefill = PackedAttention(lengths, CPU, cache)
    ids = torch.tensor([token for sequence in SEQUENCES for token in sequence])
    hidden_states(model.model, ids, prefill, prefill.ends)
    rows = torch.arange(3)
    for step in range(3):
        if step == 1:  # a row that is dropped changes nothing for the others
            rows = torch.tensor([2, 0])
            cache.select(rows)
        cache.advance()
        hidden = hidden_states(model.model, new[rows, step], cache, torch.arange(len(rows)))
        for state, row in zip(hidden, rows.tolist(), strict=True):
            whole = torch.tensor([SEQUENCES[row] + new[row, : step + 1].tolist()])
            torch.testing.assert_close(state, model.model(whole).last_hidden_state[0, -1], atol=1e-5, rtol=1e-5)


def test_ends_and_positions_literal() -> None:
    attention = PackedAttention([5, 1, 3], CPU)
    assert attention.positions.tolist() == [0, 1, 2, 3, 4, 0, 0, 1, 2]
    assert attention.ends.tolist() == [4, 5, 8]
