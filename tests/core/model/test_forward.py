"""Our passes without padding and with a cache give the result of transformers' plain pass, except for rounding."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from groundup.core.model.cache import KeyValueCache, StockCache, prefill
from groundup.core.model.forward import PackedAttention, RowAttention, hidden_states
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
    texts = [list(sequence) for sequence in SEQUENCES]
    cache, hidden = prefill(model.model, texts, max_new_tokens=4)
    assert isinstance(cache, KeyValueCache if type(model) is LlamaForCausalLM else StockCache)
    for rows, tokens in (([0, 1, 2], [2, 5, 8]), ([2, 1], [9, 6]), ([1, 1], [7, 8]), ([1], [3])):
        cache.select(torch.tensor(rows))  # dropping a row changes nothing for the others
        texts = [[*texts[row], token] for row, token in zip(rows, tokens, strict=True)]
        hidden = cache.step(torch.tensor(tokens))
        expected = [model.model(torch.tensor([text])).last_hidden_state[0, -1] for text in texts]
        torch.testing.assert_close(hidden, torch.stack(expected), atol=1e-5, rtol=1e-5)


LENGTHS = [[5, 1, 10], [16], [3, 13]]  # positions in the documents of each row


@MODELS
def test_rows_of_documents_have_the_states_and_gradients_of_transformers(model: LlamaForCausalLM) -> None:
    ids = torch.randint(64, (3, 16), generator=torch.Generator().manual_seed(0))
    positions = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in LENGTHS])
    wanted = torch.arange(0, 48, 2)
    ours = hidden_states(model.model, ids.flatten(), RowAttention(positions), wanted)
    theirs = model.model(ids, position_ids=positions, use_cache=False).last_hidden_state.flatten(0, 1)[wanted]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weights = [weight for weight in model.model.parameters() if weight.requires_grad]
    gradients = [torch.autograd.grad(hidden.square().sum(), weights) for hidden in (ours, theirs)]
    for gradient, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, reference, atol=1e-3, rtol=1e-3)


def test_ends_and_positions_literal() -> None:
    attention = PackedAttention([5, 1, 3], CPU)
    assert attention.positions.tolist() == [0, 1, 2, 3, 4, 0, 0, 1, 2]
    assert attention.ends.tolist() == [4, 5, 8]
