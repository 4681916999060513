"""The family tree of the present outputs: which run made each, and from what."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.frame.files import read_json
from groundup.frame.pipeline import read_pipeline, upstream


@dataclass(frozen=True)
class Node:
    """One stage's present result. `run_id` is the run that made it, also where DVC skipped the stage since."""

    stage: str
    run_id: str | None
    fingerprint: str
    parents: dict[str, str]  # upstream stage -> run that made what this run read, as tagged then
    outs: tuple[str, ...]
    metrics: dict[str, Any]

    def stale_parents(self, nodes: dict[str, "Node"]) -> list[str]:
        """Upstream stages that have been run again since, with another result; `dvc repro` brings them together."""
        return [name for name, run_id in self.parents.items() if name in nodes and nodes[name].run_id != run_id]


def present_lineage(root: Path, tags_of_run: "TagReader") -> dict[str, Node]:
    """Stages with a metrics file, in pipeline order. Parents come from MLflow's tags, else from the metrics files."""
    pipeline = read_pipeline(root)
    records = {name: read_json(path) for name in pipeline if (path := root / f"metrics/{name}.json").exists()}
    nodes = {}
    for name, record in records.items():
        run_id = record["mlflow_run_id"]
        tags = tags_of_run(run_id) if run_id else None
        parents = {
            parent: (tags or {}).get(f"upstream.{parent}") or records.get(parent, {}).get("mlflow_run_id") or "unknown"
            for parent in upstream(pipeline, name)
        }
        nodes[name] = Node(name, run_id, record["fingerprint"], parents, pipeline[name].outs, record)
    return nodes


class TagReader:
    """run id -> tags from the tracking store; None where the store does not have the run."""

    def __init__(self, tracking_uri: str) -> None:
        from mlflow import MlflowClient  # 3 s; only the commands that need it pay

        self._client = MlflowClient(tracking_uri)

    def __call__(self, run_id: str) -> dict[str, str] | None:
        from mlflow.exceptions import MlflowException

        try:
            return dict(self._client.get_run(run_id).data.tags)
        except MlflowException:
            return None
