"""Seconds and memory of the stages, from made-up runs."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.pipeline.__main__ import measured, summary, table
from groundup.runner.clock import note_run
from groundup.runner.figures import Record, write_record
from groundup.runner.files import write_json
from groundup.runner.pipeline import read_pipeline
from tests.conftest import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout in which every stage has run here."""
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    for number, stage in enumerate(read_pipeline(tmp_path), start=1):
        write_record(tmp_path, stage, Record("abc", {"val_loss": 1.5}))
        taken = {"stage_seconds": 60.0 * number, "peak_memory_mb": 1000.5}
        write_json(tmp_path / f".work/{stage}/abc.json", taken | {"mlflow_run_id": "run"})
    return tmp_path


def test_the_table_has_every_stage_and_their_sum(root: Path) -> None:
    stages = measured(root)
    assert list(stages) == list(read_pipeline(root))
    assert stages["tokenizer"] == {
        "stage_seconds": 120.0,
        "peak_memory_mb": 1000.5,
    }
    assert summary(stages) == {"seconds": 60.0 * 28, "peak_memory_mb": 1000.5}
    lines = table(stages).splitlines()
    assert lines[3] == "| tokenizer | 120.0 | 1,000.5 |"
    assert lines[-1] == "| together | 1,680.0 | 1,000.5 |"


def test_what_a_stage_notes_is_enough(root: Path) -> None:
    figures = {"peak_memory_mb": 3.0}
    note_run(root, SimpleNamespace(stage="sft", value="abc"), figures, None, is_new=True)
    assert "| sft | " in table(measured(root))


def test_a_result_of_another_machine_is_refused(root: Path) -> None:
    write_record(root, "sft", Record("other", {}))
    (root / "metrics/align.json").unlink()
    with pytest.raises(ValueError, match="has not run sft, align as they are now"):
        measured(root)
