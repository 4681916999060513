"""Replies by beam search, best of n and tree of thoughts: one search at a time, on a thread."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from groundup.app.serve.errors import busy


@dataclass(frozen=True)
class Found:
    token_ids: list[int]
    finish_reason: str
    log_prob: float
    reward: float | None


# (model, prompt, method, numbers given by the request) -> Found; ValueError for impossible settings
Find = Callable[[str, Sequence[int], str, Mapping[str, Any]], Found]


class AbandonedError(Exception):
    """No client waits for this search any more."""


class _Thread(threading.local):
    abandoned: threading.Event | None = None  # set when the client of this thread's current search leaves


_thread = _Thread()


def end_when_abandoned(model: PreTrainedModel) -> None:
    """Make every forward pass of the model check first whether a client still waits for the search."""

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
        """A cancelled caller leaves the queue; a running search ends before its next forward pass."""
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
