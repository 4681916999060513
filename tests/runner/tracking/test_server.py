"""Stages of a two-stage pipeline while their MLflow server, a real one, is absent, killed and started again."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from groundup.runner import stage as runner
from groundup.runner.context import StageContext
from groundup.runner.lineage import StoredRuns, present_lineage
from groundup.runner.tracking import register
from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.fetch import fetch_champion
from groundup.runner.tracking.store import open_store
from tests.conftest import ROOT
from tests.presets import preset_text
from tests.runner.conftest import run_note
from tests.runner.tracking.events import evaluate
from tests.servers import Server, free_port, wait_for

PIPELINE = """
stages:
  prepare:
    cmd: python -m stages.prepare
    deps: [data]
    params: [prepare.seed]
    outs: [artifacts/text, artifacts/reports/prepare]
    metrics: [{metrics/prepare.json: {cache: false}}]
  tokenizer:
    cmd: python -m stages.tokenizer
    deps: [artifacts/text]
    params: [tokenizer]
    outs: [artifacts/tokenizer]
    metrics: [{metrics/tokenizer.json: {cache: false}}]
"""

pytestmark = pytest.mark.services


@pytest.fixture
def server(tmp_path: Path, migrated_store: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(migrated_store.read_bytes())
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    options = ["--workers", "1", "--host", "127.0.0.1", "--port", port]
    artifacts = ["--artifacts-destination", str(folder / "artifacts")]
    server = Server(folder, f"http://127.0.0.1:{port}", [*command, *options, *artifacts], {})
    yield server
    server.kill()


@pytest.fixture
def root(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("GROUNDUP_DEVICE", "cpu")
    root = tmp_path / "checkout"
    (root / "data").mkdir(parents=True)
    (root / "data/a.txt").write_text("hello")
    (root / "src").symlink_to(ROOT / "src")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text(preset_text("smoke"), encoding="utf-8")
    return root


def run_noted(root: Path, stage: str) -> Path | None:
    return next((root / f".work/{stage}").glob("*/run.json"), None)


def deliverers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "groundup.runner.tracking.deliver" in p.cmdline()]


@pytest.mark.tried("MLflow", "a real server is absent at the start, killed in the middle and started again")
def test_a_server_that_comes_and_goes(
    root: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(stage: StageContext) -> dict[str, Any]:
        stage.out("artifacts/text").write_text("hello")
        stage.out("artifacts/reports/prepare").mkdir()
        (stage.out("artifacts/reports/prepare") / "report.md").write_text("# report")
        for step in (1, 2):
            stage.log(step, loss=1.0 / step)
        return {"loss": 0.25}

    def tokenizer(stage: StageContext) -> dict[str, Any]:
        stage.log(1, loss=1.0)
        wait_for(lambda: run_noted(root, "tokenizer") is not None)
        server.kill()
        for step in range(2, 8):
            stage.log(step, loss=1.0 / step)
            time.sleep(0.2)
        (deliverer,) = deliverers()
        deliverer.kill()
        server.start()
        stage.log(8, loss=0.125)
        stage.out("artifacts/tokenizer").mkdir()
        (stage.out("artifacts/tokenizer") / "tokenizer_config.json").write_text("{}")
        return {"vocab_size": 5}

    # no server: the stage succeeds, and says where the points are
    with monkeypatch.context() as context:
        context.setattr("groundup.runner.tracking.tracker.SHORT_SECONDS", 1.0)
        runner._run(root, "prepare", prepare)
    (spool,) = (root / ".work/prepare").glob("*/spool.jsonl")
    assert f"training continues, its points wait in {spool}" in caplog.messages[0]
    assert "refused" in caplog.messages[0]
    assert f"the rest waits in {spool} for the next stage or `groundup deliver`" in caplog.text
    assert run_note(root)["mlflow_run_id"] is None
    caplog.clear()

    # up at the start, then killed together with the deliverer, then up again: everything that waited arrives
    server.start()
    runner._run(root, "tokenizer", tokenizer)
    assert not [message for message in caplog.messages if "MLflow" in message]
    assert not deliverers()
    client = MlflowClient(server.uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "groundup"]
    runs = {run.data.tags["stage"]: run for run in client.search_runs([experiment.experiment_id])}
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert [run.info.status for run in runs.values()] == ["FINISHED", "FINISHED"]
    for stage, steps in {"prepare": [1, 2, 3], "tokenizer": list(range(1, 9))}.items():
        history = client.get_metric_history(runs[stage].info.run_id, "loss")
        assert [point.step for point in history] == steps
    assert [f.path for f in client.list_artifacts(runs["prepare"].info.run_id)] == ["metrics.json", "report.md"]
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert {metric.key: metric.value for metric in model.metrics}["vocab_size"] == 5
    assert run_note(root, "tokenizer")["mlflow_run_id"] == runs["tokenizer"].info.run_id

    # prepare's run was unknown; its fingerprint leads to it
    assert runs["tokenizer"].data.tags["upstream.prepare"] == runs["prepare"].info.run_id
    nodes = present_lineage(root, StoredRuns(server.uri))
    assert nodes["prepare"].made.run_id == runs["prepare"].info.run_id
    assert nodes["tokenizer"].parents == {"prepare": nodes["prepare"].made}
    assert nodes["tokenizer"].stale_parents(nodes) == []

    # a model that passed the gates goes there whole, and comes back
    monkeypatch.setattr(register, "log_copy", copy_files)
    Deliverer(evaluate(root / ".work/evaluate/abc", passed=True), open_store(server.uri), None).deliver()
    path = fetch_champion(server.uri, root / ".work/champion")
    assert path.is_relative_to(root / ".work/champion")
    assert (path / "README.md").read_text(encoding="utf-8").endswith("# card\n")


def copy_files(model_id: str, source: Path) -> None:
    """The parts of it that take seconds are left to the tests of the champion."""
    (source / "config.json").write_text("{}", encoding="utf-8")
    MlflowClient().log_model_artifact(model_id, str(source / "config.json"))
