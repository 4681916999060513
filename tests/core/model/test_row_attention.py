"""Rows of several documents: our forward pass computes what transformers' does, which reads them off position_ids."""

import pytest
import torch

from groundup.core.model.forward import RowAttention, hidden_states
from tests.core.model.variants import make_model

LENGTHS = [[5, 1, 10], [16], [3, 13]]  # of the documents in each row


@pytest.mark.parametrize("position", ["rope", "sinusoidal"])
@pytest.mark.parametrize("attention", ["softmax", "linear"])
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_states_and_gradients_are_those_of_transformers(position: str, attention: str, num_kv_heads: int) -> None:
    model = make_model(position, attention, num_kv_heads)
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
