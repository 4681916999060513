"""One process per work dir."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundup.runner.pipeline import PipelineError

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Lock the work dir; PipelineError names the process that already holds it."""
    work.mkdir(parents=True, exist_ok=True)
    with try_lock(lock_path(work)) as free:
        if not free:
            raise PipelineError(f"{_holder(work)} already works on {work}: wait for it, or end it first")
        yield


@contextmanager
def locked_in_turn(work: Path) -> Iterator[bool]:
    """Lock the work dir once no other process holds it: an experiment that needs the same result has it soon.

    Yields whether it was waited for.
    """
    work.mkdir(parents=True, exist_ok=True)
    has_waited = False
    while True:
        with try_lock(lock_path(work)) as free:
            if free:
                yield has_waited
                return
        if not has_waited:
            logger.info("%s works on %s: this stage waits for its result", _holder(work), work)
            has_waited = True
        time.sleep(POLL_SECONDS)


def _holder(work: Path) -> str:
    return lock_path(work).read_text(encoding="utf-8").strip() or "another process"


def lock_path(work: Path) -> Path:
    return work.parent / f"{work.name}.lock"


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Yields False if another process holds the lock; the file names it. The lock ends with that process."""
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        os.set_inheritable(file.fileno(), True)  # the lock lasts while a process that was handed it works here
        file.truncate(0)
        file.write(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')},")
        file.flush()
        yield True
