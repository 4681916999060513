"""What commands share that ask the MLflow store: its errors as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundup.app.cli.checkout import fail
from groundup.runner.tracking.check import TrackingError, check_store


def reach_store(root: Path) -> str | None:
    """Why MLflow cannot be asked now, None if it can; a wrong tracking URI ends the command."""
    try:
        return check_store(root)
    except TrackingError as error:
        fail(str(error))


@contextmanager
def store_errors() -> Iterator[None]:
    """A store that answered and then fails, as a locked database does, ends the command with one line."""
    from groundup.runner.tracking.deliver import MLFLOW_ERRORS, first_line

    try:
        yield
    except MLFLOW_ERRORS as error:
        fail(f"MLflow: {first_line(error)}")
