"""The stage contract, on a two-stage pipeline with made-up bodies and a real MLflow store."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from groundup.runner import stage as runner
from groundup.runner.context import StageContext
from groundup.runner.files import files_below
from groundup.runner.fingerprint import InputsChangedError, take_fingerprint
from groundup.runner.lock import locked
from groundup.runner.pipeline import PipelineError, read_pipeline
from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.spool import waiting
from groundup.runner.tracking.store import open_store
from groundup.runner.tracking.tracker import Tracker
from groundup.runner.workdir import sweep
from tests.runner.conftest import run_note, work_dirs, write_dvc_lock, write_outs

TAKEN = {"decoding_seconds", "peak_memory_mb", "stage_seconds"}

pytestmark = pytest.mark.usefixtures("delivered_here")


def run_of(root: Path, store: str, stage: str = "prepare") -> Any:
    return MlflowClient(store).get_run(run_note(root, stage)["mlflow_run_id"])


def test_a_success_is_published_and_tracked(root: Path, mlflow_store: str) -> None:
    runner._run(root, "prepare", write_outs, ["num_documents"])
    assert (root / "artifacts/text/train.txt").read_text() == "hello"
    assert (root / "metrics/prepare.csv").read_text() == "step,loss\n1,1\n2,0.5\n"
    record = json.loads((root / "metrics/prepare.json").read_text())
    (fingerprint,) = record.pop("fingerprint")
    assert record == {"num_documents": 1}
    report = json.loads((root / "artifacts/reports/prepare/metrics.json").read_text())
    assert report == {"num_documents": 1, "loss": 0.25, "nested": {"value": 2.5}, "note": "text"}
    note = run_note(root)
    assert note.keys() == TAKEN | {"mlflow_run_id"}
    assert note["decoding_seconds"] == 0.5
    assert note["stage_seconds"] > 0
    run = run_of(root, mlflow_store)
    assert run.info.status == "FINISHED"
    assert run.data.tags["stage"] == "prepare"
    assert run.data.tags["fingerprint"] == fingerprint
    assert run.data.metrics["decoding_seconds"] == 0.5
    assert run.data.metrics["nested.value"] == 2.5
    assert run.data.params == {"prepare.seed": "17"}
    history = MlflowClient(mlflow_store).get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert run.data.metrics["loss"] == 0.25  # the final figure, not the curve's last point
    assert [f.path for f in MlflowClient(mlflow_store).list_artifacts(run.info.run_id)] == [
        "metrics.json",
        "report.md",
    ]
    assert [d.dataset.name for d in run.inputs.dataset_inputs] == ["data"]


def test_nothing_is_published_when_the_body_fails(root: Path, mlflow_store: str) -> None:
    def fail(stage: StageContext) -> dict[str, Any]:
        write_outs(stage)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        runner._run(root, "prepare", fail)
    assert not (root / "artifacts").exists()
    assert not (root / "metrics").exists()
    (run,) = MlflowClient(mlflow_store).search_runs(experiment_ids(mlflow_store))
    assert run.info.status == "FAILED"


def experiment_ids(store: str) -> list[str]:
    return [experiment.experiment_id for experiment in MlflowClient(store).search_experiments()]


def test_the_same_inputs_resume_in_the_same_run(root: Path, mlflow_store: str) -> None:
    def stop_half_way(stage: StageContext) -> dict[str, Any]:
        (stage.work / "checkpoint").write_text("step 1")
        stage.log(1, loss=1.0)
        raise RuntimeError("killed")

    def go_on(stage: StageContext) -> dict[str, Any]:
        assert (stage.work / "checkpoint").read_text() == "step 1"
        return write_outs(stage)

    with pytest.raises(RuntimeError, match="killed"):
        runner._run(root, "prepare", stop_half_way)
    runner._run(root, "prepare", go_on)
    assert len(MlflowClient(mlflow_store).search_runs(experiment_ids(mlflow_store))) == 1
    run = run_of(root, mlflow_store)
    assert run.info.status == "FINISHED"
    history = MlflowClient(mlflow_store).get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [1, 2, 3]


def test_other_inputs_start_afresh(root: Path) -> None:
    seen: list[bool] = []

    def body(stage: StageContext) -> dict[str, Any]:
        seen.append((stage.work / "checkpoint").exists())
        (stage.work / "checkpoint").touch()
        return write_outs(stage)

    runner._run(root, "prepare", body)
    (root / "data/a.txt").write_text("other")
    runner._run(root, "prepare", body)
    assert seen == [False, False]
    assert len(work_dirs(root)) == 2


def test_a_finished_result_is_published_again_without_training(root: Path) -> None:
    runner._run(root, "prepare", write_outs)
    first = (root / "metrics/prepare.json").read_bytes(), run_note(root)["mlflow_run_id"]
    for path in ("artifacts/text/train.txt", "metrics/prepare.json"):  # as DVC does before a stage
        (root / path).unlink()

    def not_called(stage: StageContext) -> dict[str, Any]:
        raise AssertionError("trained again")

    runner._run(root, "prepare", not_called)
    assert (root / "artifacts/text/train.txt").read_text() == "hello"
    assert ((root / "metrics/prepare.json").read_bytes(), run_note(root)["mlflow_run_id"]) == first


def test_a_result_that_dvc_has_recorded_is_trained_afresh(root: Path) -> None:
    runner._run(root, "prepare", write_outs)
    write_dvc_lock(root)
    called: list[bool] = []
    runner._run(root, "prepare", lambda stage: called.append(True) or write_outs(stage))
    assert called == [True]


@pytest.mark.parametrize("edited", ["data/a.txt", "stages/prepare.py"])
def test_an_input_edited_during_the_run_is_named(root: Path, edited: str) -> None:
    before = (root / edited).read_text()

    def body(stage: StageContext) -> dict[str, Any]:
        (root / edited).write_text("edited")
        return write_outs(stage)

    with pytest.raises(InputsChangedError, match=rf"^prepare: {edited.split('/')[0]}.* was removed, checkpoints incl"):
        runner._run(root, "prepare", body)
    assert not (root / "artifacts").exists()
    (root / edited).write_text(before)
    called: list[bool] = []
    runner._run(root, "prepare", lambda stage: called.append(True) or write_outs(stage))
    assert called == [True]  # results of the edited file are not published as the old file's


def never_called(stage: StageContext) -> dict[str, Any]:
    raise AssertionError("it trained again")


KEPT = "kept but not published. Undo the edit and `dvc repro` publishes it; `dvc repro` with the edit starts from .*$"


def test_params_edited_during_the_run_cost_no_training(root: Path) -> None:
    """They were read at the start, so the result belongs to the params of that time."""
    before = (root / "params.yaml").read_text()

    def body(stage: StageContext) -> dict[str, Any]:
        (root / "params.yaml").write_text(before.replace("seed: 17", "seed: 18"))
        return write_outs(stage)

    with pytest.raises(InputsChangedError, match=rf"^prepare: params.yaml changed while the stage ran.* {KEPT}"):
        runner._run(root, "prepare", body)
    assert not (root / "artifacts").exists()
    (root / "params.yaml").write_text(before)
    runner._run(root, "prepare", never_called)
    assert (root / "artifacts/text/train.txt").read_text() == "hello"


@pytest.mark.usefixtures("no_deliverer")
@pytest.mark.parametrize("edit", ["edited", "deleted", "params.yaml"])
def test_an_edit_while_the_stage_waits_for_mlflow_is_not_recorded(
    root: Path, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    path = root / ("params.yaml" if edit == "params.yaml" else "data/a.txt")
    earlier = ("artifacts/text/train.txt", "metrics/prepare.csv", "metrics/prepare.json")
    for name in earlier:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("earlier")
    before = path.read_text()
    finish = Tracker.finish

    def edit_and_finish(tracker: Tracker, status: str) -> None:
        finish(tracker, status)
        if edit == "deleted":
            path.unlink()
        else:
            path.write_text(before.replace("seed: 17", "seed: 18").replace("hello", "other"))

    with monkeypatch.context() as patched:
        patched.setattr(Tracker, "finish", edit_and_finish)
        for body in (write_outs, never_called):  # the second time the finished result waits to be published
            with pytest.raises(InputsChangedError, match=KEPT):
                runner._run(root, "prepare", body)
            path.write_text(before)
            assert [(root / name).read_text() for name in earlier] == ["earlier"] * 3
            assert [file.name for file in files_below(root / "artifacts")] == ["train.txt"]
    runner._run(root, "prepare", never_called)
    assert (root / "artifacts/text/train.txt").read_text() == "hello"
    assert "num_documents" not in json.loads((root / "metrics/prepare.json").read_text())


def test_undeclared_paths_and_params_are_refused(root: Path) -> None:
    for reach in (
        lambda stage: stage.dep("artifacts/other"),
        lambda stage: stage.out("artifacts/other"),
        lambda stage: stage.params["sft"],
    ):
        with pytest.raises(PipelineError, match="declare it under"):
            runner._run(root, "prepare", reach)


def test_an_out_that_was_not_written_is_named(root: Path) -> None:
    with pytest.raises(PipelineError, match="declares artifacts/text, artifacts/reports/prepare but did not write"):
        runner._run(root, "prepare", lambda stage: {})


def test_a_missing_input_names_the_command(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="dvc repro tokenizer"):
        runner._run(root, "tokenizer", write_outs)


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    refused = pytest.raises(PipelineError, match=rf"process {os.getpid()}, since [-\d]+ [:\d]+, already works")
    with locked(tmp_path / "work"), refused, locked(tmp_path / "work"):
        pass


def test_a_groundup_from_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="groundup comes from"):
        runner.check_origin(tmp_path)


def test_upstream_runs_are_tagged(root: Path, mlflow_store: str) -> None:
    def tokenizer(stage: StageContext) -> dict[str, Any]:
        stage.out("artifacts/tokenizer").mkdir()
        (stage.out("artifacts/tokenizer") / "tokenizer_config.json").write_text("{}")
        return {"vocab_size": 5}

    runner._run(root, "prepare", write_outs)
    runner._run(root, "tokenizer", tokenizer)
    run = run_of(root, mlflow_store, "tokenizer")
    assert run.data.tags["upstream.prepare"] == run_of(root, mlflow_store).info.run_id
    model_id = run.data.tags["model.artifacts/tokenizer"]
    model = MlflowClient(mlflow_store).get_logged_model(model_id)
    assert model.tags["dvc.path"] == "artifacts/tokenizer"
    assert {metric.key: metric.value for metric in model.metrics}["vocab_size"] == 5
    assert run.info.status == "FINISHED"
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_as_killed(root: Path, mlflow_store: str, number: signal.Signals, code: int) -> None:
    script = (
        "import time\nfrom groundup.runner.stage import run_stage\n"
        "def body(stage):\n    stage.log(1, loss=1.0)\n    (stage.root / 'started').touch()\n    time.sleep(60)\n"
        "run_stage('prepare', body)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=root, env=environment, stderr=subprocess.PIPE)
    for _ in range(600):
        if (root / "started").exists() and any(root.glob(".work/prepare/*/run.json")):  # MLflow has the run
            break
        time.sleep(0.1)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    for work in waiting(root / ".work")[0]:  # as `groundup deliver` does: a busy machine does not deliver in the time
        Deliverer(work, open_store(mlflow_store), None).deliver()
    (run,) = MlflowClient(mlflow_store).search_runs(experiment_ids(mlflow_store))
    assert run.info.status == "KILLED"
    assert not (root / "artifacts").exists()


def test_an_unreachable_server_costs_nothing_but_a_warning(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("groundup.runner.tracking.tracker.subprocess", subprocess)  # the process that tries again
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("groundup.runner.tracking.tracker.SHORT_SECONDS", 3.0)
    runner._run(root, "prepare", write_outs)
    assert run_note(root)["mlflow_run_id"] is None
    assert (root / "artifacts/text/train.txt").exists()
    assert "groundup deliver" in caplog.text
    write_dvc_lock(root)
    spec = read_pipeline(root)["prepare"]
    for _ in range(2):  # an undelivered run survives later runs, under a stable name
        sweep(root, root / ".work/prepare", spec, take_fingerprint(root, spec, {"prepare.seed": 17}, "cpu"))
    (kept,) = work_dirs(root)
    assert kept.name.count("-undelivered-") == 1
