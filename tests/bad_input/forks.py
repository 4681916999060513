"""Runs stages as processes at a fraction of the price: as forks of one that has imported the runner and no more."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    message: str
    heavy: bool  # whether torch was imported by then


class ForkServer:
    """`run` starts `python -m stages.STAGE` in a folder, without the second that importing the runner takes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, stage: str, folder: Path, **environment: str) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"stage": stage, "folder": str(folder), "environment": environment}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate(timeout=10)
