"""The delivering process: `python -m groundup.runner.tracking.deliver WORK ROOT PARENT` sends spools to MLflow.

It runs beside the stage, so that neither MLflow's import nor a slow or dead server delays training, and ends when
the run or the stage's process has ended. First it sends the runs that earlier stages could not send.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from groundup.runner.environment import main_root, tracking_store
from groundup.runner.redact import redact, redact_streams
from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.spool import claimed, waiting
from groundup.runner.tracking.store import open_store

logger = logging.getLogger("groundup.deliver")

POLL_SECONDS = 0.1  # a stage waits for the last poll
RETRY_SECONDS = 2.0
MLFLOW_ERRORS = (MlflowException, OSError, SQLAlchemyError)  # a later attempt may succeed


def deliver_left(folder: Path, own: Path, client: MlflowClient, artifact_location: str | None, parent: int) -> None:
    """Deliver what earlier stages could not; what fails again waits for the next stage."""
    works, damaged = waiting(folder)
    for error in damaged:
        logger.warning("%s", error)
    for work in works:
        if work == own or os.getppid() != parent:
            continue
        try:
            with claimed(work) as free:
                if free:
                    Deliverer(work, client, artifact_location).deliver()
        except MLFLOW_ERRORS as error:
            logger.warning("%s stays undelivered: %s", work, first_line(error))
        except Exception:  # one broken spool must not keep the others from being delivered
            logger.exception("%s stays undelivered", work)


def first_line(error: BaseException) -> str:
    """The message without the stack trace or SQL that MLflow appends; redacted."""
    return redact((str(error) or type(error).__name__).strip().splitlines()[0])


def main(work: Path, root: Path, parent: int) -> None:
    uri, artifact_location = tracking_store(root)
    said = ""
    with _own(work, parent) as held:
        client: MlflowClient | None = None
        deliverer: Deliverer | None = None
        while held and os.getppid() == parent:
            try:
                if client is None:
                    client = open_store(uri)
                    deliver_left(main_root(root) / ".work", work, client, artifact_location, parent)
                deliverer = deliverer or Deliverer(work, client, artifact_location)
                if deliverer.deliver():
                    return
            except MLFLOW_ERRORS as error:
                if first_line(error) != said:
                    said = first_line(error)
                    logger.warning("%s; trying again", said)
                client, deliverer = None, None  # read again what has arrived
                time.sleep(RETRY_SECONDS)
            time.sleep(POLL_SECONDS)


@contextmanager
def _own(work: Path, parent: int) -> Iterator[bool]:
    """Wait for `groundup deliver`, or another stage's process, to be done with this spool."""
    while os.getppid() == parent:
        with claimed(work) as free:
            if free:
                yield True
                return
        time.sleep(POLL_SECONDS)
    yield False


if __name__ == "__main__":
    redact_streams()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
