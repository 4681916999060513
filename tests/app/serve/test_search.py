"""Abandoned searches end."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from groundup.app.serve.search import Found, Searches, end_when_abandoned

FOUND = Found([5], "stop", -1.0, None)
MANY = 100_000  # forward passes: minutes


@pytest.fixture
def counted(tiny_model: LlamaForCausalLM) -> LlamaForCausalLM:
    end_when_abandoned(tiny_model)
    return tiny_model


@pytest.mark.parametrize("late", [False, True], ids=["the client leaves", "time is up"])
def test_an_abandoned_search_ends_before_its_next_step(counted: LlamaForCausalLM, late: bool) -> None:
    steps: list[str] = []

    def find(model: str, prompt: Sequence[int], method: str, numbers: Mapping[str, Any]) -> Found:
        for _ in range(numbers["steps"]):
            counted(torch.tensor([list(prompt)]))
            steps.append(method)
        return FOUND

    async def leave(searches: Searches) -> None:
        now = asyncio.get_running_loop().time()
        deadline = now + (0.5 if late else 60.0)
        task = asyncio.create_task(searches.find("sft", [5, 6], "long", {"steps": MANY}, deadline))
        while not steps:
            await asyncio.sleep(0.01)
        if not late:
            task.cancel()
        with pytest.raises(TimeoutError if late else asyncio.CancelledError):
            await task
        # The one thread is free for the next, whose passes are its own; others may use the model all the time.
        assert await searches.find("sft", [5, 6], "short", {"steps": 3}, now + 60) == FOUND

    searches = Searches(find, max_queue=2)
    try:
        asyncio.run(leave(searches))
    finally:
        searches.close()
    assert steps[-3:] == ["short"] * 3
    assert 0 < steps.count("long") < MANY
    counted(torch.tensor([[5, 6]]))
