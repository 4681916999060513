"""Requests that a model's chat template refuses."""

from types import SimpleNamespace
from typing import Any, Literal

import pytest

from groundup.app.serve.errors import ApiError
from groundup.app.serve.plan import plan_chat
from groundup.app.serve.requests import ChatRequest
from groundup.app.serve.settings import Settings
from tests.open_tokenizers import adopted


@pytest.mark.parametrize("truncation", ["disabled", "auto"])
def test_turns_that_a_template_refuses_are_an_error_of_the_request(
    settings: Settings, truncation: Literal["disabled", "auto"]
) -> None:
    model: Any = SimpleNamespace(name="aligned", tokenizer=adopted("gemma"), context_length=256)
    messages: Any = [{"role": "user", "content": "hi"}] * 2
    twice = ChatRequest(model="aligned", messages=[*messages, *messages[:1]], truncation=truncation)
    with pytest.raises(ApiError, match="roles must alternate") as error:
        plan_chat(twice, model, settings)
    assert (error.value.status, error.value.param) == (400, "messages")
    once = ChatRequest(model="aligned", messages=messages[:1], truncation=truncation)
    assert plan_chat(once, model, settings).num_prompt_tokens > 3
