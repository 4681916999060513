"""Replies by beam search, best of n and tree of thoughts: each a whole search, one after the other on a thread."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from groundup.assistant.server.engine import QueueFullError


@dataclass(frozen=True)
class Found:
    token_ids: list[int]
    finish_reason: str
    log_prob: float
    reward: float | None


# (model, prompt, method, its numbers as far as the request gives them); ValueError where they cannot work
Find = Callable[[str, Sequence[int], str, Mapping[str, Any]], Found]


class Searches:
    def __init__(self, find: Find, max_queue: int) -> None:
        self._find = find
        self._max_queue = max_queue
        self._num_pending = 0
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="search")

    async def find(
        self, model: str, prompt: Sequence[int], method: str, numbers: Mapping[str, Any], timeout: float
    ) -> Found:
        """Whoever is cancelled leaves the queue; a search that has begun ends by itself, within its budget."""
        if self._num_pending > self._max_queue:
            raise QueueFullError(f"{self._num_pending - 1} searches wait already and {self._max_queue} may")
        self._num_pending += 1
        try:
            async with asyncio.timeout(timeout):
                work = self._executor.submit(self._find, model, prompt, method, numbers)
                return await asyncio.wrap_future(work)
        finally:
            self._num_pending -= 1

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
