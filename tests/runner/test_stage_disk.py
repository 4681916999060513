"""A stage on a full or read-only disk: a clear error, nothing lost, and it resumes once there is room."""

import json
import os
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest

from groundup.runner import stage as runner
from groundup.runner.context import StageContext
from groundup.runner.environment import DVC_STAGE
from groundup.runner.files import files_below
from groundup.runner.stage import run_stage
from tests.runner.conftest import write_outs
from tests.small_disk import fill, make_read_only, make_writable, small_disk

pytestmark = pytest.mark.usefixtures("no_deliverer")


@pytest.fixture
def work_disk(root: Path) -> Iterator[Path]:
    with small_disk(root / ".work", megabytes=2) as folder:
        yield folder


@pytest.fixture
def artifacts_disk(root: Path) -> Iterator[Path]:
    with small_disk(root / "artifacts", megabytes=2) as folder:
        yield folder


def fails_with(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, body: Any) -> str:
    monkeypatch.chdir(root)
    monkeypatch.setattr(runner, "set_environment", lambda offline: None)  # both would affect other tests
    monkeypatch.setattr(runner, "redact_streams", lambda: None)
    caplog.clear()
    with pytest.raises(SystemExit) as ended:
        run_stage("prepare", body)
    assert ended.value.code == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    return line


def test_a_spool_that_cannot_be_written(
    root: Path, work_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of training: afterwards the curve has no gap and no double row."""

    def fill_the_disk(stage: StageContext) -> dict[str, Any]:
        (stage.work / "checkpoint").write_text("step 1")
        stage.log(1, loss=1.0)
        fill(work_disk)
        for _ in range(1000):
            stage.log(2, loss=9.0)
        raise AssertionError("the disk was not full")

    def go_on(stage: StageContext) -> dict[str, Any]:
        assert (stage.work / "checkpoint").read_text() == "step 1"
        return write_outs(stage)

    line = fails_with(root, monkeypatch, caplog, fill_the_disk)
    assert line.startswith(
        f"prepare failed: the work of prepare could not be written to {work_disk}/prepare: the disk is full"
    )
    assert line.endswith("\nEarlier outputs and metrics are as they were.")
    (work_disk / "ballast").unlink()
    runner._run(root, "prepare", go_on)
    assert (root / "metrics/prepare.csv").read_text() == "step,loss\n1,1\n2,0.5\n"


def test_a_work_dir_on_a_read_only_disk(
    root: Path, work_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_read_only(work_disk)
    line = fails_with(root, monkeypatch, caplog, write_outs)
    assert "the disk is read-only" in line
    make_writable(work_disk)
    runner._run(root, "prepare", write_outs)


@pytest.mark.parametrize("read_only", [False, True])
def test_outputs_that_cannot_be_published(
    root: Path,
    artifacts_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    read_only: bool,
) -> None:
    runner._run(root, "prepare", write_outs)
    record = (root / "metrics/prepare.json").read_bytes()
    (root / "data/a.txt").write_text("x" * 200_000)
    if read_only:
        make_read_only(artifacts_disk)
    else:
        ballast = fill(artifacts_disk, leave_bytes=100_000)
    line = fails_with(root, monkeypatch, caplog, write_outs)
    assert line.startswith(f"prepare failed: text could not be written to {artifacts_disk}: the disk is ")
    assert (root / "artifacts/text/train.txt").read_text() == "hello"
    assert (root / "metrics/prepare.json").read_bytes() == record
    if read_only:
        make_writable(artifacts_disk)
    else:
        ballast.unlink()

    def never_called(stage: StageContext) -> dict[str, Any]:
        raise AssertionError("it trained again")

    runner._run(root, "prepare", never_called)
    assert (root / "artifacts/text/train.txt").stat().st_size == 200_000
    assert [path for path in files_below(artifacts_disk) if path.name.startswith(".")] == []
    assert (root / "metrics/prepare.json").read_bytes() != record


def test_under_dvc_the_error_says_how_to_bring_back_what_dvc_removed(
    root: Path, artifacts_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(DVC_STAGE, "dvc.yaml:prepare")
    monkeypatch.setattr(runner, "end_with_dvc", lambda interruption: None)  # there is no dvc
    make_read_only(artifacts_disk)
    line = fails_with(root, monkeypatch, caplog, write_outs)
    assert line.endswith(
        "\nThe last outputs: `dvc checkout prepare`, the last metrics: `git checkout -- 'metrics/prepare.*'`."
    )


def raised_in_a_library(stage: StageContext) -> dict[str, Any]:
    json.loads("{")
    raise AssertionError


def unexpected(stage: StageContext) -> dict[str, Any]:
    raise KeyError("loss")


@pytest.mark.parametrize("body", [raised_in_a_library, unexpected])
def test_an_unexpected_error_keeps_its_traceback_and_names_the_recovery(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, body: Any
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(runner, "redact_streams", lambda: None)
    monkeypatch.setattr(runner, "set_environment", lambda offline: None)
    with pytest.raises((ValueError, KeyError)):
        run_stage("prepare", body)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("prepare failed unexpectedly")
    assert line.endswith("\nEarlier outputs and metrics are as they were.")


def test_a_full_disk_under_the_metrics_changes_no_out(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner._run(root, "prepare", write_outs)
    record = (root / "metrics/prepare.json").read_bytes()
    (root / "data/a.txt").write_text("another text")

    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(ENOSPC, os.strerror(ENOSPC), "metrics/prepare.json")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "note_run", full)
        fails_with(root, patch, caplog, write_outs)
        assert (root / "artifacts/text/train.txt").read_text() == "hello"
        assert (root / "metrics/prepare.json").read_bytes() == record
    runner._run(root, "prepare", write_outs)
    assert (root / "artifacts/text/train.txt").read_text() == "another text"
