"""Duration and MLflow run id of each run, by stage and fingerprint; in `.work`, since no rerun reproduces them."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from groundup.runner.environment import main_root
from groundup.runner.figures import Figures, of_this_machine, read_record
from groundup.runner.files import read_object, write_json
from groundup.runner.fingerprint import Fingerprint
from groundup.runner.pipeline import read_pipeline

RUN_ID = "mlflow_run_id"


def process_seconds() -> float:
    """Seconds since the interpreter started. On Linux, psutil rounds the boot time and can be off by a second."""
    if sys.platform == "linux":
        started = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")
    else:
        seconds = time.time() - psutil.Process().create_time()
    return round(seconds, 2)


def note_run(root: Path, fingerprint: Fingerprint, figures: Figures, run_id: str | None, *, is_new: bool) -> None:
    """is_new: this process made the result; else it only publishes it, and the time that it took stays."""
    earlier = {} if is_new else read_run(root, fingerprint.stage, fingerprint.value)
    note = {"stage_seconds": earlier.get("stage_seconds", process_seconds()), RUN_ID: run_id}
    write_json(_file(root, fingerprint.stage, fingerprint.value), of_this_machine(figures) | note)


def read_run(root: Path, stage: str, fingerprint: str) -> dict[str, Any]:
    """Empty if this machine has no such run."""
    path = _file(root, stage, fingerprint)
    return read_object(path) if path.is_file() else {}


def present_runs(root: Path) -> dict[str, dict[str, Any]]:
    """The runs that produced the current results, by stage in pipeline order; runs of other machines are left out."""
    records = {name: read_record(root, name) for name in read_pipeline(root)}
    runs = {name: read_run(root, name, record.fingerprint) for name, record in records.items() if record}
    return {name: run for name, run in runs.items() if run}


def stage_seconds(root: Path) -> dict[str, float]:
    return {name: float(run["stage_seconds"]) for name, run in present_runs(root).items()}


def _file(root: Path, stage: str, fingerprint: str) -> Path:
    return main_root(root) / ".work" / stage / f"{fingerprint}.json"
