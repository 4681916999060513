"""The family tree of the present outputs: which run made each, and from what."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from groundup.runner.files import read_object
from groundup.runner.pipeline import read_pipeline, upstream

UNKNOWN = "unknown"


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
        return [
            name
            for name, run_id in self.parents.items()
            if name in nodes and run_id != UNKNOWN and nodes[name].run_id not in (None, run_id)
        ]


class Runs(Protocol):
    """What lineage asks of the tracking store."""

    def find(self, run_id: str | None, fingerprint: str) -> str | None: ...

    def tags(self, run_id: str) -> dict[str, str] | None: ...


def read_records(root: Path) -> dict[str, dict[str, Any]]:
    """The metrics files that there are, in pipeline order."""
    return {
        name: {"mlflow_run_id": None, "fingerprint": UNKNOWN} | read_object(path)
        for name in read_pipeline(root)
        if (path := root / f"metrics/{name}.json").exists()
    }


def present_lineage(root: Path, runs: Runs) -> dict[str, Node]:
    """Stages with a metrics file, in pipeline order. Parents come from MLflow's tags, else from the metrics files."""
    pipeline = read_pipeline(root)
    records = read_records(root)
    run_ids = {name: runs.find(record["mlflow_run_id"], record["fingerprint"]) for name, record in records.items()}
    nodes = {}
    for name, record in records.items():
        run_id = run_ids[name]
        tags = (runs.tags(run_id) if run_id else None) or {}
        parents = {}
        for parent in upstream(pipeline, name):
            present = records[parent]["fingerprint"] if parent in records else UNKNOWN
            fingerprint = tags.get(f"upstream_fingerprint.{parent}", present)
            tagged = tags.get(f"upstream.{parent}", UNKNOWN)
            found = (
                runs.find(None, fingerprint) if tagged == UNKNOWN and fingerprint != present else run_ids.get(parent)
            )
            parents[parent] = tagged if tagged != UNKNOWN else found or UNKNOWN
        nodes[name] = Node(name, run_id, record["fingerprint"], parents, pipeline[name].outs, record)
    return nodes


class NoRuns:
    """Without a store, the metrics files tell."""

    def find(self, run_id: str | None, fingerprint: str) -> str | None:
        return run_id

    def tags(self, run_id: str) -> dict[str, str] | None:
        return None


class StoredRuns:
    """The tracking store's runs."""

    def __init__(self, tracking_uri: str) -> None:
        from groundup.runner.tracking.store import open_store  # 3 s; only the commands that need it pay

        self._client = open_store(tracking_uri)

    def find(self, run_id: str | None, fingerprint: str) -> str | None:
        """The noted run; if there is none or the store lacks it, the last one with this fingerprint."""
        from groundup.runner.tracking.store import resolve_run

        return resolve_run(self._client, run_id, fingerprint)

    def tags(self, run_id: str) -> dict[str, str] | None:
        from groundup.runner.tracking.store import find_run

        run = find_run(self._client, run_id)
        return dict(run.data.tags) if run else None
