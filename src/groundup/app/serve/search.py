"""Replies by beam search, best of n and tree of thoughts: each a whole search, one after the other on a thread."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaForCausalLM

from groundup.app.serve.errors import busy


@dataclass(frozen=True)
class Found:
    token_ids: list[int]
    finish_reason: str
    log_prob: float
    reward: float | None


# (model, prompt, method, its numbers as far as the request gives them); ValueError where they cannot work
Find = Callable[[str, Sequence[int], str, Mapping[str, Any]], Found]


class AbandonedError(Exception):
    """Nobody waits for this search any more."""


class _Thread(threading.local):
    abandoned: threading.Event | None = None  # of the search that this thread is at


_thread = _Thread()


def end_when_abandoned(model: LlamaForCausalLM) -> None:
    """Every forward pass of the model in a search first looks whether somebody still waits for its reply."""

    def look(module: torch.nn.Module, arguments: Any) -> None:
        if _thread.abandoned is not None and _thread.abandoned.is_set():
            raise AbandonedError

    model.get_input_embeddings().register_forward_pre_hook(look)


class Searches:
    def __init__(self, find: Find, max_queue: int) -> None:
        self._find = find
        self._max_queue = max_queue
        self._num_pending = 0
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="search")

    async def find(
        self, model: str, prompt: Sequence[int], method: str, numbers: Mapping[str, Any], deadline: float
    ) -> Found:
        """Whoever is cancelled leaves the queue; a search that has begun ends before its next forward pass."""
        if self._num_pending > self._max_queue:
            raise busy(f"{self._num_pending - 1} searches wait already and {self._max_queue} may")
        self._num_pending += 1
        abandoned = threading.Event()
        try:
            async with asyncio.timeout_at(deadline):
                work = self._executor.submit(self._run, abandoned, model, prompt, method, numbers)
                return await asyncio.wrap_future(work)
        finally:
            abandoned.set()
            self._num_pending -= 1

    def _run(self, abandoned: threading.Event, *search: Any) -> Found:
        _thread.abandoned = abandoned
        return self._find(*search)

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
