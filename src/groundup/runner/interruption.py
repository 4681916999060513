"""SIGTERM, Ctrl-C and the end of `dvc`: a stage ends at once, or, inside a training loop, at the next checkpoint."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from groundup.runner.environment import DVC_STAGE

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
POLL_SECONDS = 0.5  # between looks at whether dvc is still there


class Terminated(SystemExit):
    """SIGTERM or SIGINT; the exit code is 128 + signal, since Lightning and transformers by themselves exit with 0."""


class Interruption:
    """A pending request to end the stage. A second signal ends it at once, unless it is `patient`."""

    def __init__(self, *, patient: bool = False) -> None:
        self.signal_number: int | None = None  # of the first signal
        self._deferring = False
        self._patient = patient  # a process that several send the same signal to: Slurm and torchrun

    def listen(self) -> None:
        """Lightning replaces the handlers when it starts, so its training loops call this again."""
        for number in SIGNALS:
            signal.signal(number, self.receive)

    def receive(self, number: int, frame: FrameType | None) -> None:
        is_first = self.signal_number is None
        self.signal_number = self.signal_number or number
        if not self._deferring or not (is_first or self._patient):
            raise Terminated(128 + number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the first signal: the loop checks `signal_number`, and calls `end_if_asked` to end."""
        self._deferring = True
        try:
            yield
        except SystemExit:  # also Lightning's own, with exit code 0, after a SIGTERM that came before `listen`
            self.end_if_asked()
            raise
        finally:
            self._deferring = False
        self.end_if_asked()

    def end_if_asked(self) -> None:
        if self.signal_number is not None:
            raise Terminated(128 + self.signal_number)


@contextmanager
def listening(*, patient: bool = False) -> Iterator[Interruption]:
    """Deliver signals to the yielded Interruption until the context ends."""
    interruption = Interruption(patient=patient)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    interruption.listen()
    try:
        yield interruption
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def end_with_dvc(interruption: Interruption) -> None:
    """End this stage as on SIGTERM once dvc has ended: SIGTERM or a crash ends dvc alone and leaves the stage running.

    A stage that was started by hand has no dvc above it and is not affected.
    """
    dvc = find_dvc()
    if dvc is not None:
        threading.Thread(target=_end_after, args=(dvc, interruption), daemon=True).start()
    elif DVC_STAGE in os.environ:
        logger.warning(
            "%s is set, but dvc has ended, so this stage does not start; the next `dvc repro` runs it "
            "(to run it by hand, unset %s)",
            DVC_STAGE,
            DVC_STAGE,
        )
        raise Terminated(128 + signal.SIGTERM)


def end_with_parents(interruption: Interruption) -> None:
    """The same for one of the processes of a stage's body: once torchrun, or the stage that started it, has ended."""
    for process in psutil.Process().parents()[:2]:
        threading.Thread(target=_end_after, args=(process, interruption), daemon=True).start()


def find_dvc() -> psutil.Process | None:
    """The dvc that started this process."""
    return next((process for process in psutil.Process().parents() if _is_dvc(process)), None)


def _is_dvc(process: psutil.Process) -> bool:
    """`dvc repro`, `python -m dvc repro`; not the shell that dvc may put between itself and the stage."""
    try:
        return "dvc" in (Path(part).name for part in process.cmdline())
    except psutil.Error:  # it has just ended, or belongs to someone else
        return False


def _end_after(above: psutil.Process, interruption: Interruption) -> None:
    while _is_alive(above):
        time.sleep(POLL_SECONDS)
    logger.warning("process %d is gone, so this stage ends too; the next `dvc repro` continues", above.pid)
    if interruption.signal_number is None:  # else this process got dvc's signal too, and a second one ends it at once
        os.kill(os.getpid(), signal.SIGTERM)


def _is_alive(process: psutil.Process) -> bool:
    """False also if another process has the same pid by now, or if it is a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
