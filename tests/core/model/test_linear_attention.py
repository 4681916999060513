"""Linear attention: the sums of the paper, and transformers' masks."""

import math

import pytest
import torch
from torch import Tensor

from groundup.core.model.linear_attention import feature_map, parallel
from tests.core.model.variants import make_model

SEQUENCES = [[7, 8, 9, 11, 1], [5], [20, 30, 40]]


def random_heads(num_kv_heads: int, num_places: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, heads, num_places, 8) for heads in (4, num_kv_heads, num_kv_heads))
    queries, keys, values = (torch.randn(shape, generator=generator) for shape in shapes)
    return queries, keys, values


def by_the_paper(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Equation 9, sum by sum."""
    out = torch.zeros_like(queries)
    groups = queries.shape[1] // keys.shape[1]
    for b in range(queries.shape[0]):
        for h in range(queries.shape[1]):
            for i in range(queries.shape[2]):
                phi = feature_map(queries[b, h, i])
                weights = [phi @ feature_map(keys[b, h // groups, j]) for j in range(i + 1)]
                terms = [w * values[b, h // groups, j] for j, w in enumerate(weights)]
                out[b, h, i] = torch.stack(terms).sum(0) / torch.stack(weights).sum()
    return out


def test_feature_map_literal() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0])
    torch.testing.assert_close(feature_map(x), torch.tensor([math.exp(-2), 1.0, 4.0]))


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
def test_matrices_and_the_paper_agree(num_kv_heads: int) -> None:
    queries, keys, values = random_heads(num_kv_heads)
    whole = parallel(queries, keys, values, None)
    torch.testing.assert_close(whole, by_the_paper(queries, keys, values), atol=1e-5, rtol=1e-5)


def test_the_first_place_gets_its_own_value() -> None:
    queries, keys, values = random_heads(4)
    torch.testing.assert_close(parallel(queries, keys, values, None)[:, :, 0], values[:, :, 0], atol=1e-5, rtol=1e-5)


def test_the_last_queries_of_more_keys_see_all_before() -> None:
    queries, keys, values = random_heads(2)
    whole = parallel(queries, keys, values, None)
    torch.testing.assert_close(parallel(queries[:, :, -3:], keys, values, None), whole[:, :, -3:])


def test_a_query_that_sees_nothing_gets_zeros() -> None:
    queries, keys, values = random_heads(4, num_places=3)
    visible = torch.tensor([[False, False, False], [False, True, False], [False, True, True]])[None, None]
    attended = parallel(queries, keys, values, visible)
    assert not attended[:, :, 0].any()
    torch.testing.assert_close(attended[:, :, 1], values[:, :, 1], atol=1e-5, rtol=1e-5)


def test_dropout_drops_weights() -> None:
    queries, keys, values = random_heads(4)
    torch.manual_seed(0)
    assert not torch.allclose(
        parallel(queries, keys, values, None, dropout=0.5), parallel(queries, keys, values, None)
    )


MODELS = pytest.mark.parametrize("position", ["rope", "sinusoidal"])


@MODELS
@pytest.mark.parametrize("num_kv_heads", [4, 2])
@torch.no_grad()
def test_documents_in_a_row_do_not_see_each_other(position: str, num_kv_heads: int) -> None:
    """A document starts where position_ids restart."""
    model = make_model(position, "linear", num_kv_heads)
    row = torch.tensor([[token for sequence in SEQUENCES for token in sequence]])
    places = torch.tensor([[i for sequence in SEQUENCES for i in range(len(sequence))]])
    packed = model.model(row, position_ids=places, use_cache=False).last_hidden_state[0]
    alone = torch.cat([model.model(torch.tensor([sequence])).last_hidden_state[0] for sequence in SEQUENCES])
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)
    leaking = model.model(row, position_ids=places, attention_mask=torch.ones_like(row), use_cache=False)
    assert not torch.allclose(leaking.last_hidden_state[0, 5:], packed[5:], atol=1e-2)


@MODELS
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(position: str) -> None:
    model = make_model(position, "linear")
    alone = model(torch.tensor([[7, 8, 9]])).logits[0]
    for ids, mask, places in (
        ([2, 2, 7, 8, 9], [0, 0, 1, 1, 1], [1, 1, 0, 1, 2]),
        ([7, 8, 9, 2, 2], [1, 1, 1, 0, 0], [0, 1, 2, 1, 1]),
    ):
        seen = torch.tensor([mask]).bool()
        padded = model(torch.tensor([ids]), attention_mask=torch.tensor([mask]), position_ids=torch.tensor([places]))
        assert padded.logits.isfinite().all()
        torch.testing.assert_close(padded.logits[seen], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_every_weight_learns(num_kv_heads: int) -> None:
    model = make_model("sinusoidal", "linear", num_kv_heads).train()
    model(torch.tensor(SEQUENCES[:1]), labels=torch.tensor(SEQUENCES[:1])).loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_bf16_stays_near_fp32() -> None:
    queries, keys, values = random_heads(2, num_places=200)
    whole = parallel(queries, keys, values, None)
    low = parallel(queries.bfloat16(), keys.bfloat16(), values.bfloat16(), None)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), whole, atol=0.03, rtol=0.03)
