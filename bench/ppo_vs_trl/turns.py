"""A side trains a few iterations at a time, when it is told to: both sides' turns alternate on one machine.

Nothing here imports groundup or TRL: both environments use it.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


class Turns:
    """One line on stdin is the permission for one turn; one line of JSON on stdout reports it."""

    def __init__(self, settings: dict[str, Any], out: Path) -> None:
        self.length = settings["iterations_per_turn"]
        self.out = out
        self.seconds: list[float] = []  # of the iterations of this turn
        self.iteration = 0

    def begin(self) -> None:
        _say({"ready": True})
        self._wait()

    def end_iteration(self, save: Any) -> None:
        """`save(folder)` writes the policy; the time that takes and the wait for the next turn are not counted."""
        self.seconds.append(time.perf_counter() - self.started)
        self.iteration += 1
        if self.iteration % self.length == 0:
            save(self.out / f"iteration-{self.iteration}")
            _say({"seconds": self.seconds})
            self.seconds = []
            self._wait()
        self.started = time.perf_counter()

    def _wait(self) -> None:
        if not sys.stdin.readline():
            sys.exit("the other end is gone")
        self.started = time.perf_counter()


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def read_settings(path: str) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return settings
