"""The stage's side of tracking: start the deliverer, write events, wait for the last of them."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from groundup.runner.environment import DELIVERY, tracking_store
from groundup.runner.redact import redact
from groundup.runner.tracking.spool import Spool, is_delivered, read_delivered

logger = logging.getLogger(__name__)

LOG = "deliver.log"
DELIVERY_SECONDS = 60.0  # how long a finished stage waits for MLflow
SHORT_SECONDS = 10.0  # the same after SIGTERM or Ctrl-C, or if MLflow was unreachable and has received nothing since


class Tracker:
    """One MLflow run, fed through the spool in the work dir. `problem`: why MLflow cannot receive it now."""

    def __init__(self, root: Path, work: Path, start: dict[str, Any], problem: str | None) -> None:
        self.root = root
        self.work = work
        self.problem = problem
        self.spool = Spool(work)
        if problem:
            logger.warning(
                "MLflow at %s cannot receive runs now (%s): training continues, its points wait in %s",
                redact(tracking_store(root)[0]),
                problem,
                self.spool.path,
            )
        self.spool.write("start", **start)
        self._process = self._launch()

    def _launch(self) -> subprocess.Popen[bytes]:
        with (self.work / LOG).open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "groundup.runner.tracking.deliver",
                    str(self.work),
                    str(self.root),
                    str(os.getpid()),
                ],
                # The deliverer loads models, for which MLflow would use the GPU of the stage.
                env=DELIVERY | os.environ | {"PYTHONPATH": str(self.root / "src"), "CUDA_VISIBLE_DEVICES": ""},
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to the stage alone, which tells the deliverer how the run ended
            )

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, and wait a limited time for the delivery."""
        self.spool.write("finish", status=status)
        if self._process.poll() is not None:  # it was killed: by itself it does not end before the run
            self._process = self._launch()
        short = status == "KILLED" or (self.problem is not None and self.run_id is None)
        try:
            self._process.wait(SHORT_SECONDS if short else DELIVERY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        if not is_delivered(self.work):
            logger.warning(
                "MLflow has not received all of this run: the rest waits in %s for the next stage or "
                "`groundup deliver` (last message: %s; more in %s)",
                self.spool.path,
                self._last_said(),
                self.work / LOG,
            )

    def _last_said(self) -> str:
        lines = (self.work / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line), "nothing")

    @property
    def run_id(self) -> str | None:
        return read_delivered(self.work).run_id
