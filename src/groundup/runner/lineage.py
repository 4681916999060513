"""The family tree of the present outputs: which run made each, and from what."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from groundup.runner.clock import RUN_ID, read_run
from groundup.runner.figures import UNKNOWN, Figures, read_record
from groundup.runner.pipeline import StageSpec, read_pipeline, upstream


@dataclass(frozen=True)
class Made:
    """A result, identified by the fingerprint of its inputs and, where known, the run that produced it."""

    fingerprint: str
    run_id: str | None

    def __str__(self) -> str:
        return self.run_id[:8] if self.run_id else f"fingerprint {self.fingerprint[:8]}"


@dataclass(frozen=True)
class Node:
    """One stage's current result, even if DVC has skipped the stage since."""

    spec: StageSpec
    made: Made
    parents: dict[str, Made]  # upstream stage -> what this run read
    figures: Figures

    def stale_parents(self, nodes: dict[str, "Node"]) -> list[str]:
        """Upstream stages whose result has changed since this run; `dvc repro` runs this stage again."""
        return [
            name
            for name, read in self.parents.items()
            if name in nodes
            and UNKNOWN not in (read.fingerprint, nodes[name].made.fingerprint)
            and read.fingerprint != nodes[name].made.fingerprint
        ]


class Runs(Protocol):
    """What lineage asks of the tracking store."""

    def find(self, stage: str, fingerprint: str) -> str | None: ...

    def tags(self, run_id: str) -> dict[str, str]: ...


def present_lineage(root: Path, runs: Runs) -> dict[str, Node]:
    """Stages that have run, in pipeline order. A run's tags say what it read; without a run, the results do."""
    pipeline = read_pipeline(root)
    records = {name: record for name in pipeline if (record := read_record(root, name))}
    made = {name: Made(record.fingerprint, runs.find(name, record.fingerprint)) for name, record in records.items()}
    nodes = {}
    for name, record in records.items():
        run_id = made[name].run_id
        tags = runs.tags(run_id) if run_id else {}
        parents = {}
        for parent in upstream(pipeline, name):
            present = made.get(parent, Made(UNKNOWN, None))
            fingerprint = tags.get(f"upstream_fingerprint.{parent}", present.fingerprint)
            same = fingerprint == present.fingerprint
            parents[parent] = present if same else Made(fingerprint, runs.find(parent, fingerprint))
        nodes[name] = Node(pipeline[name], made[name], parents, record.figures)
    return nodes


@dataclass(frozen=True)
class NotedRuns:
    """Runs from this machine's notes in `.work`, used without a tracking store."""

    root: Path

    def find(self, stage: str, fingerprint: str) -> str | None:
        run_id: str | None = read_run(self.root, stage, fingerprint).get(RUN_ID)
        return run_id

    def tags(self, run_id: str) -> dict[str, str]:
        return {}


class StoredRuns:
    """The tracking store's runs."""

    def __init__(self, tracking_uri: str) -> None:
        from groundup.runner.tracking.store import open_store  # 3 s; only the commands that need it pay

        self._client = open_store(tracking_uri)

    def find(self, stage: str, fingerprint: str) -> str | None:
        from groundup.runner.tracking.store import resolve_run

        return resolve_run(self._client, fingerprint)

    def tags(self, run_id: str) -> dict[str, str]:
        return dict(self._client.get_run(run_id).data.tags)
