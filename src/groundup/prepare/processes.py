"""Pure functions of chunks on all cores, results in the order of the chunks."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

CHUNK_CHARACTERS = 1 << 17  # some hundredths of a second of work
CHUNKS_ALONE = 8  # so much is done before a worker that starts now could begin
QUEUED = 2  # chunks at a worker: one that it works on, one that it finds when that is done
MAX_PROCESSES = 8  # more wait for this one, which reads and writes


def available_cores() -> int:
    """os.cpu_count also counts those that are not for this process."""
    return os.cpu_count() or 1 if sys.platform == "darwin" else len(os.sched_getaffinity(0))


def chunks_of(items: Iterable[T], length: Callable[[T], int]) -> Iterator[list[T]]:
    """Of about CHUNK_CHARACTERS."""
    chunk, size = list[T](), 0
    for item in items:
        chunk.append(item)
        size += length(item)
        if size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class Processes:
    """This process and workers. Their number changes no byte of what is made, so it is no param.

    Workers are spawned, not forked: that is safe beside threads, and the same on Linux and macOS. They take about half
    a second to start, so this process works too, and small corpora start none. Chunks under way are bounded.
    """

    def __init__(self, number: int) -> None:
        self.num_workers = min(number, MAX_PROCESSES) - 1
        self.max_pending = 4 * self.num_workers + 12  # while a worker starts, this process does 12 chunks
        self.num_alone = CHUNKS_ALONE if self.num_workers else sys.maxsize
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:  # what a worker is at may take minutes
            for worker in active_children():
                worker.terminate()
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[T], R], chunks: Iterable[T], *, start_workers: bool = True) -> Iterator[R]:
        """Results in the order of the chunks. `start_workers`: where none work yet, after CHUNKS_ALONE."""
        pending: deque[Future[R]] = deque()
        for chunk in chunks:
            pending.append(self._begin(function, chunk, sum(not future.done() for future in pending), start_workers))
            while pending and (pending[0].done() or len(pending) >= self.max_pending):
                yield result_of(pending.popleft())
        while pending:
            yield result_of(pending.popleft())

    def _begin(self, function: Callable[[T], R], chunk: T, num_running: int, start_workers: bool) -> Future[R]:
        """A worker's, unless all have enough to do: then this process does it now."""
        with explained():
            if self._pool is None and (not start_workers or self.num_alone > 0):
                self.num_alone -= start_workers
            elif num_running < QUEUED * self.num_workers:
                return self._workers().submit(function, chunk)
            done: Future[R] = Future()
            done.set_result(function(chunk))
            return done

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.num_workers, get_context("spawn"), initializer=begin_worker)
        return self._pool


def begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first of them ends the others
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """A parent that was killed closes no pool, and its workers would wait for chunks for ever."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def result_of(future: Future[R]) -> R:
    with explained():
        if error := future.exception():
            raise error  # from here: `future.result` would raise it inside of the library
        return future.result()


@contextmanager
def explained() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise ChildProcessError(
            "a worker process of prepare has ended early. If nothing above says why, the system killed it, as it does "
            "where memory runs out: free some, then start again, and the stage goes on where it was (on Linux, with "
            "`taskset -c 0` before the command, it takes one core and no worker)"
        ) from None
    except MemoryError:
        raise OSError(
            "prepare is out of memory: free some, or lower prepare.max_row_bytes in params.yaml if single rows are "
            "that large, and start again"
        ) from None
