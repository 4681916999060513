"""The delivering process continues after each kind of error, and logs each kind once."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from groundup.runner.tracking import deliver
from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.spool import is_delivered
from groundup.runner.tracking.store import open_store
from tests.runner.tracking.events import assert_whole, write_run
from tests.small_disk import fill, small_disk


@pytest.mark.tried("MLflow", "requests fail: connection refused, store locked, disk full")
def test_trouble_passes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mlflow_store: str, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    write_run(work)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    monkeypatch.setattr(deliver, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(deliver, "POLL_SECONDS", 0.0)
    refused = MlflowException("API request to http://me:hunter2@host failed")
    locked = OperationalError("insert", {}, Exception("database is locked"))
    troubles: list[Exception] = [refused, refused, OSError(28, "No space left on device"), locked]
    opened: list[str] = []

    def open_badly(uri: str) -> Any:
        opened.append(uri)
        if len(opened) <= len(troubles):
            raise troubles[len(opened) - 1]
        return open_store(uri)

    monkeypatch.setattr(deliver, "open_store", open_badly)
    deliver.main(work, tmp_path, os.getppid())
    assert_whole(open_store(mlflow_store))
    assert caplog.messages == [
        "API request to http://***@host failed; trying again",
        "[Errno 28] No space left on device; trying again",
        "(builtins.Exception) database is locked; trying again",
    ]


def test_it_ends_with_its_stage(mlflow_store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_run(tmp_path / "work")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    deliver.main(tmp_path / "work", tmp_path, parent=0)  # nobody's child
    assert not is_delivered(tmp_path / "work")


@pytest.mark.tried("MLflow", "the disk under the database is full")
def test_a_full_disk_under_the_store(migrated_store: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    write_run(work)
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        client = open_store(f"sqlite:///{shutil.copy(migrated_store, disk)}")
        client.create_experiment("groundup", artifact_location=(tmp_path / "artifacts").as_uri())
        filler = fill(disk)
        with pytest.raises(MlflowException, match="database or disk is full"):
            Deliverer(work, client, None).deliver()
        filler.unlink()
        Deliverer(work, client, None).deliver()
        assert_whole(client)
