import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store; making one takes seconds, copying it none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_store(migrated_store: Path, tmp_path: Path) -> str:
    """URI of a store of this test's own, its one experiment's artifacts in the test's folder."""
    path = shutil.copy(migrated_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{path}"
    MlflowClient(uri).create_experiment("groundup", artifact_location=(tmp_path / "mlartifacts").as_uri())
    return uri
