"""The MLflow store: opened so that a kill cannot damage it; finds runs by tags and fingerprint."""

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from groundup.runner.tracking.check import EXPERIMENT

# MLflow logs a stack trace for each exception that it raises, and its own progress.
logging.getLogger("mlflow").setLevel(logging.CRITICAL)


def open_store(uri: str) -> MlflowClient:
    """A client of a store that responds; MlflowException or OSError if it does not."""
    if uri.startswith("sqlite:///") and not (path := Path(uri.removeprefix("sqlite:///"))).exists():
        _create(path)
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    client.search_experiments(max_results=1)
    return client


def _create(path: Path) -> None:
    """Create the tables in a temporary file: MLflow needs hundreds of steps and cannot resume after a kill."""
    with _alone_in(path.parent), tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        if not path.exists():
            beside = Path(folder) / path.name
            MlflowClient(f"sqlite:///{beside}").search_experiments(max_results=1)
            os.replace(beside, path)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def find_runs(client: MlflowClient, tags: dict[str, str]) -> list[Run]:
    """Runs with all of these tags, oldest first."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    wanted = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment.experiment_id], wanted, order_by=["attributes.start_time ASC"]))


def resolve_run(client: MlflowClient, fingerprint: str) -> str | None:
    """The run that produced a result: the last one with this fingerprint, a finished one if there is one."""
    same = find_runs(client, {"fingerprint": fingerprint})
    finished = [run for run in same if run.info.status == "FINISHED"]
    return (finished or same)[-1].info.run_id if same else None


def make_model(run: Run, name: str, model: dict[str, Any]) -> str:
    """Create a LoggedModel of the run for a model that DVC stores; returns its id."""
    made = mlflow.create_external_model(
        name=name,
        source_run_id=run.info.run_id,
        tags={
            "dvc.path": model["path"],
            "dvc.md5": model["md5"],
            # without these, MLflow records the user's name and this file's path
            "mlflow.user": run.info.user_id,
            "mlflow.source.name": f"stages/{run.data.tags['stage']}.py",
        },
        params=model["params"],
        model_type=model["model_type"],
        experiment_id=run.info.experiment_id,
    )
    return str(made.model_id)


def find_run(client: MlflowClient, run_id: str) -> Run | None:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
