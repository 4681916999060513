"""One process a work dir."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundup.frame.pipeline import PipelineError


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Hold the work dir; a second holder is told who the first is. The lock goes with the process, however it ends."""
    work.mkdir(parents=True, exist_ok=True)
    path = work.parent / f"{work.name}.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise PipelineError(
                f"{file.read().strip() or 'another process'} already works on {work}: wait for it, or end it first"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')},")
        file.flush()
        yield
