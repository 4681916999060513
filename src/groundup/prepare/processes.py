"""Apply pure functions to chunks on all cores; results come in the order of the chunks."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

CHUNK_CHARACTERS = 1 << 17  # takes some hundredths of a second
CHUNKS_ALONE = 8  # this process has finished this number before a worker has started
CHUNKS_PER_WORKER = 4  # submitted and not yet used: bounds the memory
MAX_WORKERS = 8  # more would wait for this process, which reads and writes


def available_cores() -> int:
    """The cores that this process may use; os.cpu_count counts all."""
    return os.cpu_count() or 1 if sys.platform == "darwin" else len(os.sched_getaffinity(0))


def worker_count(num_cores: int) -> int:
    """0 on a single core, where this process does all the work."""
    return min(num_cores, MAX_WORKERS) if num_cores > 1 else 0


def chunks_of(items: Iterable[T], length: Callable[[T], int]) -> Iterator[list[T]]:
    """Chunks of about CHUNK_CHARACTERS."""
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
    """Worker processes. Their number changes no byte of the results, so it is not a param.

    Workers are spawned, not forked: that is safe beside threads, and the same on Linux and macOS.
    """

    def __init__(self, num_cores: int) -> None:
        self.num_workers = worker_count(num_cores)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:  # do not wait for a worker's chunk, which may take minutes
            for worker in active_children():
                worker.terminate()
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[T], R], chunks: Iterable[T]) -> Iterator[R]:
        """Results in the order of the chunks. Workers start only for more than CHUNKS_ALONE chunks."""
        with explained():
            chunks = iter(chunks)
            first = list(islice(chunks, CHUNKS_ALONE + 1))
            if self._pool is None:
                if not self.num_workers or len(first) <= CHUNKS_ALONE:
                    yield from map(function, chain(first, chunks))
                    return
                self._pool = ProcessPoolExecutor(self.num_workers, get_context("spawn"), initializer=begin_worker)
            pending: deque[Future[R]] = deque()
            for chunk in chain(first, chunks):
                pending.append(self._pool.submit(function, chunk))
                if len(pending) >= CHUNKS_PER_WORKER * self.num_workers:
                    yield result_of(pending.popleft())
            while pending:
                yield result_of(pending.popleft())


def begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent ends the others
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Exit with the parent: a killed parent closes no pool, and its workers would wait for chunks forever."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def result_of(future: Future[R]) -> R:
    if error := future.exception():
        raise error  # raised here, because `future.result` would raise it inside the library
    return future.result()


@contextmanager
def explained() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise ChildProcessError(
            "a worker process of prepare ended early. If nothing above says why, the system probably killed it for "
            "lack of memory: free some, then start again, and the stage resumes where it was (on Linux, with "
            "`taskset -c 0` before the command, it uses one core and no worker)"
        ) from None
    except MemoryError:
        raise OSError(
            "prepare is out of memory: free some, or lower prepare.max_row_bytes in params.yaml if single rows are "
            "that large, and start again"
        ) from None
