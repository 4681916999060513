"""What evaluate passes to the registry, from the stage to MLflow."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from groundup.runner import stage as runner
from groundup.runner.context import StageContext
from groundup.runner.fingerprint import InputsChangedError
from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.registry import NAME, champion, versions
from groundup.runner.tracking.spool import read_events
from groundup.runner.tracking.store import open_store

pytestmark = pytest.mark.usefixtures("no_deliverer")

PIPELINE = """
stages:
  align:
    cmd: python -m stages.align
    deps: [data]
    params: [align.seed]
    outs: [artifacts/aligned]
    metrics: [{metrics/align.json: {cache: false}}]
  evaluate:
    cmd: python -m stages.evaluate
    deps: [artifacts/aligned]
    params: [evaluate.seed]
    outs: [artifacts/reports/evaluate]
    metrics: [{metrics/evaluate.json: {cache: false}}]
"""
GATES = [{"name": "harm", "metric": "harmful_rate", "value": 0.5, "limit": 0.25, "passed": False, "reason": "worse"}]


@pytest.fixture
def checkout(root: Path) -> Path:
    (root / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    model = root / "artifacts/aligned"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "hidden_size": 8}', encoding="utf-8")
    (model / "README.md").write_text("# card\n", encoding="utf-8")
    return root


def evaluating(verdict: dict[str, Any]) -> runner.Body:
    def evaluate(stage: StageContext) -> dict[str, Any]:
        report = stage.out("artifacts/reports/evaluate")
        report.mkdir(parents=True)
        for name in ("page.json", "replies.jsonl"):
            (report / name).write_text(name, encoding="utf-8")
        (report / "gates.json").write_text(json.dumps(GATES if verdict else []), encoding="utf-8")
        return {"win_rate": 0.75, **verdict}

    return evaluate


def registered(root: Path) -> tuple[Path, list[dict[str, Any]]]:
    (spool,) = (root / ".work/evaluate").glob("*/spool.jsonl")
    return spool.parent, [event for event in read_events(spool, 0) if event["kind"] == "register"]


def test_a_model_that_passed_is_kept_as_it_was_judged(
    checkout: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow receives it after an outage, when the checkout holds another model."""
    runner._run(checkout, "evaluate", evaluating({"gates_passed": 1}))
    work, (event,) = registered(checkout)
    shutil.rmtree(checkout / "artifacts/aligned")
    copied: list[str] = []
    monkeypatch.setattr(
        "groundup.runner.tracking.register.log_copy",
        lambda model_id, source: copied.append((source / "config.json").read_text()),
    )
    client = open_store(mlflow_store)
    Deliverer(work, client, None).deliver()
    assert champion(client) == "1"
    (version,) = versions(client).values()
    assert '"hidden_size": 8' in copied[0]
    assert version.tags["dvc.path"] == "artifacts/aligned"
    assert [file.rpartition("/")[2] for file in event["report"]] == ["gates.json", "metrics.json", "page.json"]
    metrics = client.get_logged_model(version.source.removeprefix("models:/")).metrics
    assert {"win_rate", "gates_passed"} <= {metric.key for metric in metrics}


@pytest.mark.parametrize("verdict", [{"gates_passed": 0}, {}])
def test_a_model_that_did_not_pass_is_not_copied(checkout: Path, mlflow_store: str, verdict: dict[str, Any]) -> None:
    runner._run(checkout, "evaluate", evaluating(verdict))
    work, (event,) = registered(checkout)
    assert event["copy"] is None
    assert not (work / "candidate").exists()
    client = open_store(mlflow_store)
    Deliverer(work, client, None).deliver()
    assert champion(client) is None
    failed = versions(client)["1"].tags["gates.failed"]
    assert failed == ("harm: worse" if verdict else "evaluate gave no verdict")


def test_a_result_that_is_published_again_is_registered_once(checkout: Path, mlflow_store: str) -> None:
    runner._run(checkout, "evaluate", evaluating({"gates_passed": 0}))
    runner._run(checkout, "evaluate", lambda stage: pytest.fail("the stage ran again"))
    work, events = registered(checkout)
    assert len(events) == 2
    client = open_store(mlflow_store)
    Deliverer(work, client, None).deliver()
    Deliverer(work, client, None).deliver()
    assert list(versions(client)) == ["1"]
    assert client.get_registered_model(NAME).aliases == {}


def test_a_model_that_changed_while_it_was_judged_is_not_registered(checkout: Path) -> None:
    runner._run(checkout, "evaluate", evaluating({"gates_passed": 1}))
    (checkout / "metrics/evaluate.json").unlink()

    def changed(*arguments: Any) -> None:
        (checkout / "artifacts/aligned/README.md").write_text("# another\n", encoding="utf-8")

    take = runner.take_fingerprint
    with pytest.MonkeyPatch.context() as context:  # after its inputs were hashed, and before it is published again
        context.setattr(runner, "take_fingerprint", lambda *arguments: (take(*arguments), changed())[0])
        with pytest.raises(InputsChangedError, match="artifacts/aligned changed while the stage ran"):
            runner._run(checkout, "evaluate", lambda stage: pytest.fail("the stage ran again"))
    assert len(registered(checkout)[1]) == 1
    assert not (checkout / "metrics/evaluate.json").exists()


def test_no_other_stage_is_registered(checkout: Path) -> None:
    def align(stage: StageContext) -> dict[str, Any]:
        shutil.copytree(checkout / "artifacts/aligned", stage.out("artifacts/aligned"))
        return {"gates_passed": 1}

    (checkout / "data").mkdir(exist_ok=True)
    runner._run(checkout, "align", align)
    (spool,) = (checkout / ".work/align").glob("*/spool.jsonl")
    assert "register" not in {event["kind"] for event in read_events(spool, 0)}
