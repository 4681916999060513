"""Checkpoints of a training loop, sealed after writing; a run resumes from the newest one that matches its seal."""

import logging
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from groundup.runner.disk import DiskError, free_bytes, megabytes, writing
from groundup.runner.files import (
    DamagedFileError,
    file_digests,
    files_below,
    fsync_path,
    fsync_tree,
    read_json,
    remove,
    write_json,
)
from groundup.runner.interruption import Interruption

logger = logging.getLogger(__name__)

SEAL = "sealed.json"  # sha256 of every file beside it; written last, so its presence means that all was written
NUM_KEPT = 2
_NAME = re.compile(r"checkpoint-(\d+)")

T = TypeVar("T")


class Processes:
    """What the processes of a stage decide together; of this class itself, there is one."""

    is_first = True

    def any(self, flag: bool) -> bool:
        """Whether it holds in any of them. All of them have to ask."""
        return flag

    def from_first(self, find: Callable[[], T]) -> T:
        """What the first one finds, in all of them."""
        return find()

    def wait(self) -> None:
        """Until all are here."""


class Checkpoints:
    """Folders `checkpoint-<step>`. A stage with a pending request to end stops when the next one is sealed.

    Of several processes all call the same methods at the same steps, and the first one alone changes folders.
    """

    def __init__(
        self,
        folder: Path,
        interruption: Interruption,
        sync_points: Callable[[], None] = lambda: None,
        processes: Processes | None = None,
    ) -> None:
        self.folder = folder
        self.interruption = interruption
        self.seconds = 0.0  # time that this process has spent on saving
        self.sync_points = sync_points  # after this call, the points logged so far survive a power cut
        self.processes = processes or Processes()
        self.has_ended = False  # at a checkpoint, since that was asked for
        self.last_done: int | None = None  # the last step that this process has taken, saved or not

    @property
    def is_end_requested(self) -> bool:
        """Whether SIGTERM or Ctrl-C is pending: save a checkpoint at the next step from which a run can resume."""
        if self.processes.any(self.interruption.signal_number is not None):
            self.interruption.signal_number = self.interruption.signal_number or signal.SIGTERM  # another one's
            return True
        return False

    def is_end_requested_after(self, step: int) -> bool:
        """As `is_end_requested`. Asked after every step: a process that waits in vain can then name its last one."""
        self.last_done = step
        return self.is_end_requested

    @contextmanager
    def training(self) -> Iterator[None]:
        """Wraps a training loop: signals wait for a checkpoint; a full disk is explained and no sealed one is lost."""
        try:
            with writing("a checkpoint", self.folder), self.interruption.deferred():
                yield
        except DiskError:
            for path in self._all() if self.processes.is_first else ():
                if not (path / SEAL).exists():
                    remove(path)
            raise

    @contextmanager
    def saving(self, step: int) -> Iterator[Path]:
        """An empty folder to write the checkpoint to, sealed at the end."""
        start = time.monotonic()
        path = self.folder / f"checkpoint-{step}"
        if self.processes.is_first:
            remove(path)
            path.mkdir(parents=True)
        self.processes.wait()
        yield path
        self.seal(step, start)

    def seal(self, step: int, start: float) -> None:
        """Mark the checkpoint as complete and remove those it replaces; writing began at `start` (time.monotonic)."""
        path = self.folder / f"checkpoint-{step}"
        self.processes.wait()  # each may have written to it
        if self.processes.is_first:
            self._seal(path)
        is_end = self.is_end_requested  # asked of all, so none goes on before the seal
        self.seconds += time.monotonic() - start
        if is_end:
            self.has_ended = True
            if self.processes.is_first:
                logger.info("%s is saved: the next run continues from it", path.name)
            self.interruption.end_if_asked()

    def _seal(self, path: Path) -> None:
        self.sync_points()
        fsync_tree(path)
        write_json(path / SEAL, {"files": _digests(path)})
        fsync_path(path)
        fsync_path(self.folder)
        oldest = [path for path in self._all() if (path / SEAL).exists()][-NUM_KEPT:][0]
        for old in self._all():
            if step_of(old) < step_of(oldest):  # sealed or not: a kill may have left a partial one
                remove(old)

    def newest(self) -> Path | None:
        """The newest checkpoint that matches its seal; newer ones that do not are removed, with a log line each."""
        return self.processes.from_first(self._newest)

    def _newest(self) -> Path | None:
        for path in reversed(self._all()):
            if fault := fault_of(path):
                logger.warning("removing %s: %s", path.name, fault)
                remove(path)
            else:
                logger.info("continuing from %s", path.name)
                return path
        return None

    @property
    def last_step(self) -> int:
        """Of the newest sealed one; 0 if there is none."""
        return max((step_of(path) for path in self._all() if (path / SEAL).exists()), default=0)

    def require_space(self, checkpoint_bytes: int, model_bytes: int) -> None:
        """Raise DiskError unless the disk holds the kept checkpoints, the next one and two copies of the model."""
        needed = (NUM_KEPT + 1) * checkpoint_bytes + 2 * model_bytes
        present = sum(file.stat().st_size for path in self._all() for file in files_below(path))
        free = free_bytes(self.folder)
        if self.processes.is_first and free + present < needed:
            raise DiskError(
                f"training needs {megabytes(needed - present)} of disk below {self.folder}, and {megabytes(free)} are "
                f"free: {NUM_KEPT + 1} checkpoints of up to {megabytes(checkpoint_bytes)}, and the model of "
                f"{megabytes(model_bytes)} twice. Make room, for example with `groundup clean` (old work dirs) or "
                "`dvc gc -w` (old versions in DVC's cache), or make the model smaller"
            )

    def _all(self) -> list[Path]:
        """Oldest first, sealed or not."""
        found = {int(match[1]): path for path in self.folder.glob("*") if (match := _NAME.fullmatch(path.name))}
        return [found[step] for step in sorted(found)]


def step_of(checkpoint: Path) -> int:
    match = _NAME.fullmatch(checkpoint.name)
    assert match
    return int(match[1])


def _digests(path: Path) -> dict[str, str]:
    return {name: digest for name, digest in file_digests(path).items() if name != SEAL}


def fault_of(path: Path) -> str | None:
    """Why the checkpoint cannot be used; None if it is intact."""
    try:
        sealed = read_json(path / SEAL)["files"]
    except FileNotFoundError:
        return "it is incomplete"
    except (DamagedFileError, KeyError, TypeError):
        return f"its {SEAL} cannot be read"
    present = _digests(path)
    differing = sorted(name for name in sealed.keys() | present.keys() if sealed.get(name) != present.get(name))
    return f"{', '.join(differing)} changed since it was written" if differing else None
