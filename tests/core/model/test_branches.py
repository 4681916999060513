"""Replies behind one reading of their prompt have the states of whole sequences, in every family."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from groundup.core.model.branches import Branches, as_rows, reply_states, takes_branches
from tests.core.model.variants import make_model
from tests.families import FAMILIES, family_model

ITEMS = [
    Branches([7, 8, 9, 11, 1, 30], [[31, 32, 33], [5], [20, 30, 40, 50]]),
    Branches([12], [[3, 4], [6, 9, 9, 10, 13]]),
    Branches([5, 6, 7], [[14]]),
]
SHARING = {"llama-tied", "llama-untied", "qwen2", "qwen3", "gpt2"}
MODELS = [*FAMILIES, "linear", "sinusoidal"]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    name = request.param
    if name in ("linear", "sinusoidal"):
        return make_model(
            "sinusoidal" if name == "sinusoidal" else "rope", "linear" if name == "linear" else "softmax"
        )
    return family_model(name)


def states_alone(model: PreTrainedModel, items: list[Branches]) -> Tensor:
    rows = [[*item.prompt, *reply] for item in items for reply in item.replies]
    return torch.stack([model.base_model(torch.tensor([row])).last_hidden_state[0, -1] for row in rows])


def test_states_are_those_of_each_sequence_alone(model: PreTrainedModel) -> None:
    torch.testing.assert_close(reply_states(model.base_model, ITEMS), states_alone(model, ITEMS), atol=1e-5, rtol=1e-5)


def test_gradients_too(model: PreTrainedModel) -> None:
    weights = list(model.base_model.parameters())
    ours, alone = (
        torch.autograd.grad(states.square().sum(), weights)
        for states in (reply_states(model.base_model, ITEMS), states_alone(model, ITEMS))
    )
    for gradient, reference in zip(ours, alone, strict=True):
        torch.testing.assert_close(gradient, reference, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_window_needs_a_row_for_each_reply(family: str) -> None:
    model = family_model(family)
    assert takes_branches(model) == (family in SHARING)
    rows = as_rows(model, ITEMS)
    assert sum(row.num_tokens for row in rows) == (26 if family in SHARING else 39)
    assert max(len(row.replies) for row in rows) == (3 if family in SHARING else 1)


def test_dropout_of_attention_is_that_of_training() -> None:
    model = family_model("llama-tied", attention_dropout=0.5)
    torch.testing.assert_close(reply_states(model.base_model, ITEMS), reply_states(model.base_model, ITEMS))
    model.train()
    first, second = (reply_states(model.base_model, ITEMS) for _ in range(2))
    assert not torch.allclose(first, second)


def test_the_prompt_is_what_all_sequences_begin_with() -> None:
    assert Branches.of([[1, 2, 3, 4], [1, 2, 5]]) == Branches([1, 2], [[3, 4], [5]])
    assert Branches.of([[1, 2, 3], [1, 2, 3, 4], [1, 2, 3]]) == Branches([1, 2], [[3], [3, 4], [3]])
    assert Branches.of([[1, 2], [3, 2]]) == Branches([], [[1, 2], [3, 2]])
