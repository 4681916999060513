"""Runs of a training stage that crash or are asked to end, and what they leave."""

import signal
from pathlib import Path

from groundup.runner.checkpoints import Checkpoints
from groundup.runner.interruption import Interruption


class Crash(BaseException):
    """Stands for kill -9: nothing catches it, and nothing of the step is saved."""


class Curve:
    """Keeps the rows as the runner does; crashes, or is asked to end, when a step is logged."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self.crash_at: int | None = None
        self.end_at: int | None = None
        self.interruption = Interruption()

    def __call__(self, step: int, **values: float) -> None:
        if step == self.crash_at:
            self.crash_at = None
            raise Crash
        if step == self.end_at:
            self.end_at = None
            self.interruption.receive(signal.SIGTERM, None)
        self.rows.setdefault(step, {}).update(values)

    def checkpoints(self, folder: Path) -> Checkpoints:
        """As a new process has them."""
        self.interruption = Interruption()
        self.interruption.listen()
        return Checkpoints(folder / "work", self.interruption)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "work").glob("checkpoint-*"))


def saved_bytes(folder: Path) -> bytes:
    return (folder / "out/model.safetensors").read_bytes()
