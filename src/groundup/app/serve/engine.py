"""A thread that generates replies, batch by batch, for all requests."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from groundup.app.serve.batch import Batch, Event, Generation
from groundup.app.serve.errors import busy, closing

log = logging.getLogger(__name__)


class Engine:
    """Replies of all models. Only one thread computes: parallel forward passes would compete for the cores."""

    def __init__(
        self,
        batches: Mapping[str, Batch],
        max_queue: int,
        deliver: Callable[[list[Event]], None],  # called on the thread, with the events of one step
        observe: Callable[[str, int, int], None],  # (model name, replies in a step, new tokens in it)
    ) -> None:
        self.batches = dict(batches)
        self.max_queue = max_queue
        self._deliver = deliver
        self._observe = observe
        self._wake = threading.Condition()
        self._closed = False
        self._num_reserved = dict.fromkeys(batches, 0)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def num_waiting(self) -> int:
        """Those whose prompts are not ready yet wait too."""
        return sum(len(batch.waiting) + self._num_reserved[name] for name, batch in self.batches.items())

    @property
    def num_running(self) -> int:
        return sum(len(batch.running) for batch in self.batches.values())

    def submit(self, model: str, generations: Sequence[Generation]) -> None:
        """All of them or ApiError: a request is never half accepted."""
        with self._wake:
            self._check_room(model, len(generations))
            self.batches[model].waiting.extend(generations)
            self._wake.notify()

    @contextmanager
    def reserved(self, model: str, num_replies: int) -> Iterator[None]:
        """Within, that many places in the queue are taken, as if the replies waited already."""
        with self._wake:
            self._check_room(model, num_replies)
            self._num_reserved[model] += num_replies
        try:
            yield
        finally:
            with self._wake:
                self._num_reserved[model] -= num_replies

    def _check_room(self, model: str, num_replies: int) -> None:
        if self._closed:
            raise closing()
        room = self.max_queue
        for name, batch in self.batches.items():
            free = batch.num_free - len(batch.waiting) - self._num_reserved[name]
            room += free if name == model else min(free, 0)
        if num_replies > room:
            raise busy(f"{self.num_waiting} replies wait already and {self.max_queue} may")

    def cancel(self, generations: Sequence[Generation]) -> None:
        """Free their slots before the next step."""
        with self._wake:
            for generation in generations:
                generation.cancelled = True
            self._wake.notify()

    def close(self) -> None:
        """Ends the thread; whoever still waits is told."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        left = [generation for batch in self.batches.values() for generation in [*batch.stop(), *batch.waiting]]
        self._deliver([(generation, closing()) for generation in left])

    def _run(self) -> None:
        while True:
            with self._wake:
                joining = self._joining()
                while not self._closed and not any(joining.values()) and self.num_running == 0:
                    self._wake.wait()
                    joining = self._joining()
                if self._closed:
                    for name, generations in joining.items():
                        self.batches[name].waiting.extendleft(reversed(generations))
                    return
            for name, batch in self.batches.items():
                if joining[name] or batch.running:
                    self._step(name, batch, joining[name])

    def _joining(self) -> dict[str, list[Generation]]:
        for batch in self.batches.values():
            batch.drop_cancelled()
        return {name: batch.next_to_join() for name, batch in self.batches.items()}

    def _step(self, name: str, batch: Batch, joining: list[Generation]) -> None:
        num_rows = len(batch.running) + len(joining)
        try:
            events: list[Event] = list(batch.step(joining))
            self._observe(name, num_rows, len(events))
        except Exception as error:  # a failing reply must not end the thread, which all others need
            log.exception("a step of %s failed", name)
            events = [(generation, error) for generation in dict.fromkeys([*joining, *batch.stop()])]
        self._deliver(events)
