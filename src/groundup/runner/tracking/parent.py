"""The parent run of a `dvc repro` or experiment: one row in MLflow's table, with the figures of all stages.

DVC starts only stages, each a process of its own, so the deliverer of the first stage creates the parent.
"""

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag

from groundup.runner.tracking.spool import Event
from groundup.runner.tracking.store import find_runs

KEY = "parent.key"  # tag of a parent: what it stands for
CHILD_OF = "mlflow.parentRunId"  # MLflow shows the child below it
RESUMED = "parent.resumed"  # tag of a child that a second `dvc repro` finished: the parent of that one
STAGE = "stage."  # tag of a parent, for each stage: how its run ended, or REUSED
REUSED = "reused"  # its result is of an earlier run


def adopt(client: MlflowClient, run: Run, event: Event) -> dict[str, str]:
    """Find or create the parent of a start event and log the reused figures; returns the tags that link the run."""
    wanted = event["parent"]
    if wanted is None:
        return {}
    if made := find_runs(client, {KEY: wanted["key"]}):
        parent = made[0]
        client.update_run(parent.info.run_id, status="RUNNING")
    else:
        kept = {key: event["tags"][key] for key in ("git.commit", "git.dirty", "dvc.experiment")}
        tags = {KEY: wanted["key"], **kept}
        parent = client.create_run(run.info.experiment_id, event["time_ms"], tags, run_name=wanted["name"])
    parent_id = parent.info.run_id
    reused = [stage for stage in wanted["present"] if parent.data.tags.get(STAGE + stage, REUSED) == REUSED]
    metrics = [metric for stage in reused for metric in _metrics(wanted["present"][stage], event)]
    client.log_batch(parent_id, metrics=metrics, tags=[RunTag(STAGE + stage, REUSED) for stage in reused])
    first = run.data.tags.get(CHILD_OF, parent_id)
    return {CHILD_OF: first, **({RESUMED: parent_id} if first != parent_id else {})}


def report(client: MlflowClient, run: Run, event: Event) -> None:
    """Write the figures of a finished stage to its parent."""
    if parent := _parent_of(run):
        client.log_batch(parent, metrics=_metrics(event["shown"], event))


def finish(client: MlflowClient, run: Run, event: Event) -> None:
    """End the parent with the status of this stage; the next stage starts it again."""
    if parent := _parent_of(run):
        client.set_tag(parent, STAGE + run.data.tags["stage"], event["status"])
        client.set_terminated(parent, status=event["status"], end_time=event["time_ms"])


def _metrics(figures: dict[str, float], event: Event) -> list[Metric]:
    return [Metric(key, value, event["time_ms"], 0) for key, value in figures.items()]


def _parent_of(run: Run) -> str | None:
    return run.data.tags.get(RESUMED) or run.data.tags.get(CHILD_OF)
