"""Access to the MLflow store for commands, with errors as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundup.app.cli.checkout import fail
from groundup.runner.tracking.check import TrackingError, check_store


def reach_store(root: Path) -> str | None:
    """Why MLflow cannot be reached now, or None; a wrong tracking URI ends the command."""
    try:
        return check_store(root, to_write=False)
    except TrackingError as error:
        fail(str(error))


@contextmanager
def store_errors() -> Iterator[None]:
    """End the command with one line if a store that has responded fails later, for example because it is locked."""
    from groundup.runner.tracking.deliver import MLFLOW_ERRORS, first_line

    try:
        yield
    except MLFLOW_ERRORS as error:
        fail(f"MLflow: {first_line(error)}")
