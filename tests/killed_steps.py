"""A stage that is killed once at the end of each of its steps."""

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from groundup.runner import steps
from groundup.runner.files import files_below, write_text


class Killed(BaseException):
    """As abrupt as possible in a test: nothing catches it."""


class KillBeforeEachRecord:
    """The files of the step are there, cut in half, but not its record; the step before is recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps_to_kill: Collection[str] | None = None) -> None:
        self.steps_to_kill = steps_to_kill  # None: all
        self.reached: list[str] = []
        self.recorded: list[str] = []
        monkeypatch.setattr(steps, "write_text", self.write)

    def write(self, path: Path, text: str) -> None:
        kills = self.steps_to_kill is None or path.stem in self.steps_to_kill
        if kills and path.stem not in self.reached:
            self.reached.append(path.stem)
            for file in files_below(path.with_suffix("")):
                os.truncate(file, file.stat().st_size // 2)
            raise Killed
        self.recorded.append(path.stem)
        write_text(path, text)
