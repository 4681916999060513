"""Replies by search as a server finds them: within its budget, and for every seed that sampling takes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.chat.loading import Models
from groundup.app.serve.served import make_find
from groundup.core.decoding import Decoding, Reply
from groundup.core.decoding.assistant import Assistant
from groundup.runner.params.decoding import DecodingNumbers
from tests.core.decoding.conftest import NUMBERS, KnownScorer, no_std

DEFAULTS = DecodingNumbers(**NUMBERS | {"n": 2})


class OneModel(Models):
    """Its reward model likes long replies."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(Path(), torch.device("cpu"))
        scorer: Any = KnownScorer(len, no_std)
        self.one = Assistant(model, tokenizer, scorer)

    def assistant(self, name: str, rewarded: bool) -> Assistant:
        return self.one


@pytest.fixture
def models(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> Models:
    return OneModel(tiny_model, tiny_tokenizer)


@pytest.mark.parametrize(("max_search_tokens", "budget"), [(1000, 192), (100, 100)])
def test_the_budget_that_a_request_does_not_name_is_bounded_too(
    models: Models, monkeypatch: pytest.MonkeyPatch, max_search_tokens: int, budget: int
) -> None:
    asked: list[Decoding] = []

    def reply(assistant: Assistant, prompt: list[int], decoding: Decoding) -> Reply:
        asked.append(decoding)
        return Reply("", [5], "length", -1.0, None, 1)

    monkeypatch.setattr("groundup.app.serve.served.reply_to_prompt", reply)
    find = make_find(models, DEFAULTS, max_search_tokens)
    find("aligned", [5, 6], "tree", {"max_new_tokens": 2 * DEFAULTS.max_new_tokens})
    assert [decoding.budget_tokens for decoding in asked] == [budget]


def test_a_reply_that_the_budget_cannot_pay_is_refused(models: Models) -> None:
    with pytest.raises(ValueError, match=r"budget_tokens 20 is below .* raise it or lower max_new_tokens"):
        make_find(models, DEFAULTS, 20)("aligned", [5, 6], "beam", {"max_new_tokens": 12})


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**31, 2**63 - 1])
def test_searches_take_every_seed_that_sampling_takes(models: Models, seed: int) -> None:
    find = make_find(models, DEFAULTS, 1000)
    numbers = {"max_new_tokens": 6, "seed": seed}
    found = find("aligned", [5, 6], "best_of_n", numbers)
    assert found == find("aligned", [5, 6], "best_of_n", numbers)
    assert found != find("aligned", [5, 6], "best_of_n", numbers | {"seed": 7})
    assert find("aligned", [5, 6], "beam", numbers).token_ids
