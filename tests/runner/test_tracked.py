"""What a clock measured goes to MLflow and into no out."""

import json
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from groundup.runner import stage as runner
from groundup.runner.context import StageContext
from tests.runner.conftest import write_outs


def test_mlflow_gets_its_own_copy_of_a_report(root: Path, mlflow_store: str, tmp_path: Path) -> None:
    def timed(stage: StageContext) -> dict[str, Any]:
        metrics = write_outs(stage)
        report = stage.out("artifacts/reports/prepare")
        (report / "other.md").write_text("the same", encoding="utf-8")
        copies = stage.tracked("artifacts/reports/prepare")
        (copies / "report.md").write_text(f"took {stage.seconds()}", encoding="utf-8")
        return metrics

    (root / "metrics").mkdir(exist_ok=True)
    (root / "metrics/tokenizer.json").write_text('{"stage_seconds": 3.5}', encoding="utf-8")
    runner._run(root, "prepare", timed)
    assert "took" not in (root / "artifacts/reports/prepare/report.md").read_text(encoding="utf-8")
    run_id = json.loads((root / "metrics/prepare.json").read_text(encoding="utf-8"))["mlflow_run_id"]
    kept = MlflowClient(mlflow_store).download_artifacts(run_id, "", str(tmp_path))
    assert (Path(kept) / "report.md").read_text(encoding="utf-8") == "took {'tokenizer': 3.5}"
    assert (Path(kept) / "other.md").read_text(encoding="utf-8") == "the same"
