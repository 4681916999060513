"""Fetch the champion's files from the tracking store."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from groundup.runner.tracking import registry
from groundup.runner.tracking.deliver import MLFLOW_ERRORS, first_line
from groundup.runner.tracking.store import open_store

MODEL = "model"  # the directory for from_pretrained among the version's artifacts


def fetch_champion(tracking_uri: str, folder: Path) -> Path:
    """The champion's directory: in the store if that is local, else a copy below `folder`, downloaded once."""
    try:
        client = open_store(tracking_uri)
        number = registry.require_champion(client)
        path = _fetch(client, number, folder) / MODEL
    except MLFLOW_ERRORS as error:
        raise registry.RegistryError(f"MLflow: {first_line(error)}") from None
    if not (path / "config.json").is_file():
        raise registry.RegistryError(
            f"version {number} of {registry.NAME} has the alias {registry.CHAMPION}, but there is no model in "
            f"{path}: `groundup promote --to champion VERSION` names another version"
        )
    return path


def _fetch(client: MlflowClient, number: str, folder: Path) -> Path:
    location = client.get_model_version_download_uri(registry.NAME, number)
    if is_local_uri(location):
        return Path(local_file_uri_to_path(location))
    target = folder / registry.model_id(client.get_model_version(registry.NAME, number))
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as beside:
            mlflow.artifacts.download_artifacts(f"models:/{registry.NAME}/{number}", dst_path=f"{beside}/model")
            os.replace(f"{beside}/model", target)
    return target
