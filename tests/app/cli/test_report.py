"""`groundup report`: the page, its place in MLflow, and the main figures."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from groundup.app.cli.main import app
from groundup.runner.files import write_json
from groundup.runner.tracking.check import EXPERIMENT
from groundup.runner.tracking.registry import NAME
from groundup.runner.tracking.store import open_store
from tests.conftest import ROOT

PAGE = {
    "tiles": [{"label": "Bits per byte, base", "value": "1.77", "note": "5-grams 2.01"}],
    "sentences": [],
    "sections": [],
    "method": [],
}


@pytest.fixture
def checkout(tmp_path: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copyfile(ROOT / "presets/smoke.yaml", tmp_path / "params.yaml")
    (tmp_path / "stages").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    return tmp_path


@pytest.fixture
def evaluated(checkout: Path) -> Path:
    write_json(checkout / "artifacts/reports/evaluate/page.json", PAGE)
    write_json(
        checkout / "artifacts/reports/pretrain/cost.json",
        {"num_parameters": 1000, "num_learned_tokens": 2000, "num_read_tokens": 0},
    )
    for stage, seconds in {"sft": 120.0, "evaluate": 60.0}.items():
        write_record(checkout, stage, Record("f1", {}))
        write_json(checkout / f".work/{stage}/f1.json", {"stage_seconds": seconds})
    (checkout / "artifacts/aligned").mkdir()
    return checkout


def run(*arguments: str) -> tuple[Result, str]:
    result = CliRunner().invoke(app, ["report", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result, " ".join(result.output.split())


def test_before_anything_was_made(checkout: Path) -> None:
    result, output = run()
    assert result.exit_code == 1
    assert "there is nothing to report yet: `dvc repro` runs the stages" in output


def test_it_shows_the_main_figures_and_where_things_are(evaluated: Path) -> None:
    result, _ = run()
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "parameters: 1,000",
        "Bits per byte, base: 1.77 (5-grams 2.01)",
        "time: 3.0 min, 1.5 Wh at 30 W",
        "model: artifacts/aligned",
        "report: artifacts/report/report.html (not in MLflow, which lacks evaluate's run)",
        "next: `groundup chat` talks to the model, `groundup ui` opens all runs",
    ]
    assert "Bits per byte, base" in (evaluated / "artifacts/report/report.html").read_text(encoding="utf-8")


def test_the_page_goes_to_the_run_that_made_the_figures_and_to_its_version(
    evaluated: Path, mlflow_store: str, tmp_path: Path
) -> None:
    client = open_store(mlflow_store)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    run_id = client.create_run(experiment, tags={"fingerprint": "f1"}).info.run_id
    model_id = registered_version(client, experiment, run_id)
    for _ in range(2):  # again: the page is replaced
        result, output = run()
    assert result.exit_code == 0
    assert f"also in MLflow: run {run_id[:8]}, version 1 of {NAME}" in output
    assert [file.path for file in client.list_artifacts(run_id)] == ["report.html"]
    assert [file.path for file in client.list_logged_model_artifacts(model_id, "report")] == ["report/report.html"]


def registered_version(client: MlflowClient, experiment: str, run_id: str) -> str:
    model_id = client.create_logged_model(experiment, name=NAME, source_run_id=run_id).model_id
    client.create_registered_model(NAME)
    client.create_model_version(NAME, f"models:/{model_id}", run_id=run_id, model_id=model_id)
    return str(model_id)


def test_before_evaluate_it_shows_what_there_is(evaluated: Path) -> None:
    shutil.rmtree(evaluated / "artifacts/reports/evaluate")
    (evaluated / "metrics/evaluate.json").unlink()
    result, output = run()
    assert result.exit_code == 0
    assert "not evaluated yet: `dvc repro` resumes" in output
    assert "1,000 parameters" in (evaluated / "artifacts/report/report.html").read_text(encoding="utf-8")


def test_another_place_for_the_page(evaluated: Path) -> None:
    result, output = run("--out", "elsewhere/page.html")
    assert result.exit_code == 0
    assert "report: elsewhere/page.html" in output
    result, output = run("--out", "dvc.yaml/page.html")
    assert result.exit_code == 1
    assert "choose another --out" in output
