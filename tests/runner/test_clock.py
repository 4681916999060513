"""Seconds of this process, and of the stages from their metrics files."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from groundup.runner.clock import stage_seconds
from groundup.runner.files import write_json
from tests.conftest import ROOT


def test_stages_that_have_run_in_pipeline_order(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    assert stage_seconds(tmp_path) == {}
    write_json(tmp_path / "metrics/sft.json", {"stage_seconds": 12.5, "val_loss": 4.6})
    write_json(tmp_path / "metrics/prepare.json", {"stage_seconds": 3})
    write_json(tmp_path / "metrics/reward.json", {"heldout_accuracy": 0.6})
    assert list(stage_seconds(tmp_path).items()) == [("prepare", 3.0), ("sft", 12.5)]


def test_a_process_is_no_older_than_it_is() -> None:
    """psutil alone says up to a second too many on Linux."""
    script = (
        "import time; from groundup.runner.clock import process_seconds; time.sleep(0.5); print(process_seconds())"
    )
    start = time.monotonic()
    said = float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert 0.5 <= said <= time.monotonic() - start + 0.02  # the kernel counts in hundredths
