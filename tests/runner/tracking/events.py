"""Spools as a stage writes them."""

from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from groundup.runner.tracking.spool import Spool

TAGS = {"git.commit": "c0ffee", "git.dirty": "false", "device": "cpu", "mlflow.source.name": "stages/evaluate.py"}
FINAL = {"loss": 0.25, "train_seconds": 9.5} | {f"figure_{i}": i / 10 for i in range(150)}  # evaluate has hundreds

GATE = {"name": "harm", "metric": "harmful_rate", "value": 0.5, "limit": 0.25, "passed": False, "reason": "0.5 > 0.25"}


def start(stage: str, upstream: dict[str, str], models: list[list[str]]) -> dict[str, Any]:
    """Fields of a start event; the fingerprint is the stage's name."""
    return {
        "run_name": f"{stage}-run",
        "tags": {"stage": stage, "fingerprint": f"print-{stage}", **TAGS},
        "params": {f"{stage}.value{i}": str(i) for i in range(120)},
        "upstream": upstream,
        "parent": None,
        "models": models,
        "datasets": [{"path": "data", "digest": "abc", "context": stage}],
    }


def write_run(work: Path, stage: str = "sft", first: int = 1, last: int = 30, finish: bool = True) -> None:
    """One start of a stage: points of steps `first` to `last` and, if it finishes, what publishing writes."""
    work.mkdir(parents=True, exist_ok=True)
    spool = Spool(work)
    spool.write("start", **start(stage, {}, []))
    for step in range(first, last + 1):
        spool.write("point", step=step, values={"loss": 1.0 / step, "lr": 0.1})
    if finish:
        publish(work, spool, last + 1)


def publish(work: Path, spool: Spool, step: int) -> None:
    (work / "export").mkdir(exist_ok=True)
    (work / "export/report.md").write_text("# report")
    model = {"path": "artifacts/sft", "md5": "d41d.dir", "model_type": "causal-lm", "params": {"hidden_size": "8"}}
    spool.write("outputs", models=[model])
    spool.write("metrics", values=FINAL, step=step, shown={})
    spool.write("artifacts", files=[["export/report.md", ""]])
    spool.write("finish", status="FINISHED")


def evaluate(work: Path, passed: bool, upstream: dict[str, str] | None = None) -> Path:
    """The spool of an evaluate that judged the model in work/candidate."""
    (work / "candidate").mkdir(parents=True, exist_ok=True)
    (work / "candidate/README.md").write_text("---\nlibrary_name: transformers\n---\n# card\n", encoding="utf-8")
    (work / "report.html").write_text("<html>", encoding="utf-8")
    spool = Spool(work)
    spool.write("start", **start("evaluate", upstream or {}, []))
    spool.write(
        "register",
        model={"path": "artifacts/aligned", "md5": "d41d.dir", "model_type": "causal-lm", "params": {}},
        copy="candidate" if passed else None,
        gates=[GATE | {"passed": passed}],
        report=["report.html"],
    )
    spool.write("metrics", values={"win_rate": 0.75}, step=1, shown={})
    spool.write("finish", status="FINISHED")
    return work


def assert_whole(client: MlflowClient, last: int = 30) -> None:
    """One run with each point once, one model with the final figures, and everything else that was written."""
    (experiment,) = [e for e in client.search_experiments() if e.name == "groundup"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    loss = [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, "loss")]
    assert loss == [(step, 1.0 / step) for step in range(1, last + 1)] + [(last + 1, 0.25)]
    assert [p.step for p in client.get_metric_history(run.info.run_id, "lr")] == list(range(1, last + 1))
    assert [p.step for p in client.get_metric_history(run.info.run_id, "train_seconds")] == [last + 1]
    assert len(run.data.params) == 120
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["data"]
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert run.data.tags["model.artifacts/sft"] == model.model_id
    assert {(m.key, m.value, m.step) for m in model.metrics} == {(key, FINAL[key], last + 1) for key in FINAL}
    assert len(model.metrics) == len(FINAL)
    assert model.status == "READY"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.md"]
