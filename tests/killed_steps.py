"""A stage that is killed once at the end of each of its steps."""

import os
from pathlib import Path

import pytest

from groundup.runner import steps
from groundup.runner.files import files_below, write_text


class Killed(BaseException):
    """As abrupt as possible in a test: nothing catches it."""


class KillBeforeEachRecord:
    """The files of the step are there, cut in half, but not its record; the step before is recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached: list[str] = []
        self.recorded: list[str] = []
        monkeypatch.setattr(steps, "write_text", self.write)

    def write(self, path: Path, text: str) -> None:
        if path.stem not in self.reached:
            self.reached.append(path.stem)
            for file in files_below(path.with_suffix("")):
                os.truncate(file, file.stat().st_size // 2)
            raise Killed
        self.recorded.append(path.stem)
        write_text(path, text)
