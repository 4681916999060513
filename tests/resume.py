"""Runs of a training stage that crash or are asked to end, and their outputs."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from groundup.runner.checkpoints import Checkpoints
from groundup.runner.interruption import Interruption


class Crash(BaseException):
    """Replaces kill -9: nothing catches it, and nothing of the step is saved."""


class Curve:
    """Keeps the rows as the runner does; crashes or requests the end when a step is logged."""

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


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run."""

    folder: Path
    metrics: dict[str, Any]
    rows: dict[int, dict[str, float]]


class Wholes:
    """One such run for each params, shared by tests. `run` takes a folder, a log and the params."""

    def __init__(self, run: Callable[[Path, Curve, Any], dict[str, Any]], folder: Path) -> None:
        self.run = run
        self.folder = folder
        self.made: dict[str, Whole] = {}

    def __call__(self, params: BaseModel) -> Whole:
        key = params.model_dump_json()
        if key not in self.made:
            curve, folder = Curve(), self.folder / str(len(self.made))
            self.made[key] = Whole(folder, self.run(folder, curve, params), curve.rows)
        return self.made[key]
