"""Delivery to MLflow without a separate process, whose imports take seconds."""

import types
from pathlib import Path
from typing import Any

import pytest

from groundup.runner.environment import tracking_store
from groundup.runner.tracking import tracker
from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.spool import claimed
from groundup.runner.tracking.store import open_store


class DeliveredHere:
    """Replaces the deliverer's process: the same code delivers the same spool when the stage waits for it."""

    def __init__(self, command: list[str], **unused: Any) -> None:
        self.command = command

    def poll(self) -> int | None:
        return None

    def wait(self, timeout: float | None = None) -> int:
        work, root, _ = self.command[3:]
        uri, location = tracking_store(Path(root))
        with claimed(Path(work)):
            Deliverer(Path(work), open_store(uri), location).deliver()
        return 0


def deliver_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "subprocess", types.SimpleNamespace(Popen=DeliveredHere, TimeoutExpired=TimeoutError))
