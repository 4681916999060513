"""The stage's side of tracking: start the deliverer, write events, wait for the last of them."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from groundup.frame.environment import tracking_store
from groundup.frame.tracking.spool import Spool, read_delivered

logger = logging.getLogger(__name__)

EXPERIMENT = "groundup"
DELIVERY_SECONDS = 60.0  # how long a finished stage waits for MLflow
SHORT_SECONDS = 10.0  # the same after SIGTERM or Ctrl-C, or if MLflow has taken nothing so far


class Tracker:
    """One MLflow run, fed through the spool in the work dir."""

    def __init__(self, root: Path, work: Path, start: dict[str, Any]) -> None:
        self.work = work
        self.spool = Spool(work)
        uri, artifact_location = tracking_store(root)
        self.spool.write("start", experiment=EXPERIMENT, **start)
        self._log = (work / "deliver.log").open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "groundup.frame.tracking.deliver",
                str(work),
                uri,
                artifact_location or "",
                str(os.getpid()),
            ],
            env=dict(os.environ, PYTHONPATH=str(root / "src")),
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for the stage, which then tells the deliverer how the run ended
        )

    def log(self, step: int, **values: float) -> None:
        """A point of the curves."""
        self.spool.write("point", step=step, values=values)

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, and wait a while for everything to arrive."""
        self.spool.write("finish", status=status)
        self.spool.close()
        try:
            self._process.wait(SHORT_SECONDS if status == "KILLED" or self.run_id is None else DELIVERY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        self._log.close()
        if read_delivered(self.work).num_events < self.spool.num_events:
            logger.warning(
                "MLflow did not take all of this run: the rest is in %s (reason: %s); `groundup deliver` sends it",
                self.spool.path,
                self.work / "deliver.log",
            )

    @property
    def run_id(self) -> str | None:
        return read_delivered(self.work).run_id
