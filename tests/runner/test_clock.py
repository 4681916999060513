"""Seconds of this process, and of the runs that made the current results."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from groundup.runner.clock import note_run, present_runs, stage_seconds
from groundup.runner.figures import Record, write_record
from tests.conftest import ROOT


def test_the_runs_of_the_present_results_in_pipeline_order(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    assert stage_seconds(tmp_path) == {}
    for stage, present in (("sft", "aa"), ("prepare", "aa"), ("reward", "bb")):
        write_record(tmp_path, stage, Record(present, {}))
        note_run(
            tmp_path,
            fingerprint(stage, "aa"),
            {"loss": 1.5, "train_seconds": 12.5, "work_seconds": 13},
            "run-1",
            is_new=True,
        )
    runs = present_runs(tmp_path)
    assert list(runs) == ["prepare", "sft"]  # reward's result came from elsewhere
    assert runs["sft"].pop("stage_seconds") > 0
    assert runs["sft"] == {"train_seconds": 12.5, "work_seconds": 13, "mlflow_run_id": "run-1"}
    assert list(stage_seconds(tmp_path)) == ["prepare", "sft"]


def fingerprint(stage: str, value: str) -> Any:
    return SimpleNamespace(stage=stage, value=value)


def test_a_process_is_no_older_than_it_is() -> None:
    """psutil's value is up to a second too high on Linux."""
    script = (
        "import time; from groundup.runner.clock import process_seconds; time.sleep(0.5); print(process_seconds())"
    )
    start = time.monotonic()
    said = float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert 0.5 <= said <= time.monotonic() - start + 0.02  # the kernel counts in hundredths
