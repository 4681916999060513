"""What evaluate passes to the registry: the judged model, the gates' verdict and the report.

A model that passed is copied into the work dir: the checkout may hold another one by the time MLflow receives it,
for example after an outage.
"""

import shutil
from pathlib import Path
from typing import Any

from groundup.runner.describe import describe_model
from groundup.runner.files import digest_path, fsync_tree, read_json, remove
from groundup.runner.fingerprint import InputsChangedError

STAGE = "evaluate"
MODEL = "artifacts/aligned"
REPORT = "artifacts/reports/evaluate"
VERDICT = "gates_passed"  # a metric of evaluate: 1 or 0
GATES = "gates.json"  # in the report: core/judging/gates.py's Gate, one each
COPY = "candidate"
ATTACHED = ".json"  # suffix of the attached report files; replies stay with the run, `groundup report` adds its page


def register_event(root: Path, work: Path, report: Path, metrics: dict[str, Any], digest: str) -> dict[str, Any]:
    """Fields of the spool's register event. `digest`: of the model when the stage started to read it."""
    model = root / MODEL
    passed = metrics.get(VERDICT) == 1  # a model without a verdict has not passed
    remove(work / COPY)
    if passed:
        shutil.copytree(model, work / COPY)
        if digest_path(work / COPY) != digest:
            raise InputsChangedError(
                f"{STAGE}: {MODEL} changed while the stage ran, so its result is kept but not recorded. Undo the "
                "change and `dvc repro` publishes it; `dvc repro` with the change starts from scratch"
            )
        fsync_tree(work / COPY)
    gates = report / GATES
    return {
        "model": describe_model(model, MODEL),
        "copy": COPY if passed else None,
        "gates": read_json(gates) if gates.exists() else [],
        "report": [str(file.relative_to(work)) for file in sorted(report.iterdir()) if file.suffix == ATTACHED],
    }
