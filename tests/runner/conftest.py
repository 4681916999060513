import json
from pathlib import Path
from typing import Any

import pytest

from groundup.runner.context import StageContext
from groundup.runner.files import dvc_md5
from tests.presets import preset_text

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = """
stages:
  prepare:
    meta: {spreads: [ddp]}
    cmd: python -m stages.prepare
    deps: [data, stages/prepare.py]
    params: [prepare.seed]
    outs: [artifacts/text, artifacts/reports/prepare]
    metrics: [{metrics/prepare.json: {cache: false}}]
    plots: [{metrics/prepare.csv: {cache: false}}]
  tokenizer:
    cmd: python -m stages.tokenizer
    deps: [artifacts/text]
    params: [tokenizer]
    outs: [artifacts/tokenizer]
    metrics: [{metrics/tokenizer.json: {cache: false}}]
"""


@pytest.fixture
def root(tmp_path: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose src is this one."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    monkeypatch.setenv("GROUNDUP_DEVICE", "cpu")
    (tmp_path / "src").symlink_to(ROOT / "src")
    for name, text in {"dvc.yaml": PIPELINE, "data/a.txt": "hello", "stages/prepare.py": "pass"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "params.yaml").write_text(preset_text("smoke"), encoding="utf-8")
    return tmp_path


def write_outs(stage: StageContext) -> dict[str, Any]:
    assert stage.params["prepare.seed"] == 17
    stage.out("artifacts/text").mkdir()
    (stage.out("artifacts/text") / "train.txt").write_text((stage.dep("data") / "a.txt").read_text())
    stage.out("artifacts/reports/prepare").mkdir()
    (stage.out("artifacts/reports/prepare") / "report.md").write_text("# report")
    for step in (1, 2):
        stage.log(step, loss=1.0 / step)
    return {"num_documents": 1, "loss": 0.25, "nested": {"value": 2.5}, "note": "text", "decoding_seconds": 0.5}


def run_note(root: Path, stage: str = "prepare") -> dict[str, Any]:
    """The note of the stage's last run."""
    (path,) = (root / f".work/{stage}").glob("*.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def work_dirs(root: Path) -> list[Path]:
    return [path for path in (root / ".work/prepare").iterdir() if path.is_dir()]


def write_dvc_lock(root: Path) -> None:
    """As DVC does after prepare."""
    (finished,) = (root / ".work/prepare").glob("*/finished.json")
    entry = {
        "deps": [{"path": dep, "md5": dvc_md5(root / dep)} for dep in ("data", "stages/prepare.py")],
        "params": {"params.yaml": {"prepare.seed": 17}},
        "outs": [{"path": out, "md5": md5} for out, md5 in json.loads(finished.read_text())["md5s"].items()],
    }
    (root / "dvc.lock").write_text(json.dumps({"stages": {"prepare": entry}}))  # JSON is YAML


@pytest.fixture
def no_deliverer(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are not about MLflow, whose import takes seconds: the spool is written and kept."""
    monkeypatch.setattr("sys.executable", "true")
