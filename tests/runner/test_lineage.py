"""Which run made the present outputs, and from which runs."""

from pathlib import Path

import pytest

from groundup.runner.files import write_json
from groundup.runner.lineage import NoRuns, StoredRuns, present_lineage
from groundup.runner.tracking.store import open_store

PIPELINE = """
stages:
  one:
    cmd: python -m stages.one
    deps: [data]
    outs: [artifacts/text]
    metrics: [metrics/one.json]
  two:
    cmd: python -m stages.two
    deps: [artifacts/text]
    outs: [artifacts/model]
    metrics: [metrics/two.json]
  three:
    cmd: python -m stages.three
    deps: [artifacts/text, artifacts/model]
    outs: [artifacts/reports/evaluate]
    metrics: [metrics/three.json]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout in which `one` and `two` have run, `three` not yet."""
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    for stage in ("two", "one"):
        record(tmp_path, stage, f"run-{stage}")
    return tmp_path


def record(root: Path, stage: str, run_id: str | None) -> None:
    write_json(root / f"metrics/{stage}.json", {"loss": 1.5, "fingerprint": f"hash-{stage}", "mlflow_run_id": run_id})


class Runs:
    """A store that has the runs of `tags`; each may have a fingerprint."""

    def __init__(self, tags: dict[str, dict[str, str]]) -> None:
        self.runs = tags

    def find(self, run_id: str | None, fingerprint: str) -> str | None:
        made = (run for run, tags in self.runs.items() if tags.get("fingerprint") == fingerprint)
        return run_id if run_id in self.runs else next(made, run_id)

    def tags(self, run_id: str) -> dict[str, str] | None:
        return self.runs.get(run_id)


def test_nodes_stand_in_pipeline_order(root: Path) -> None:
    nodes = present_lineage(root, NoRuns())
    assert list(nodes) == ["one", "two"]
    two = nodes["two"]
    assert (two.stage, two.run_id, two.fingerprint, two.outs) == ("two", "run-two", "hash-two", ("artifacts/model",))
    assert two.metrics["loss"] == 1.5
    assert nodes["one"].parents == {}


def test_nothing_has_run(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    assert present_lineage(tmp_path, NoRuns()) == {}


def test_parents_are_the_ones_tagged_when_the_stage_ran(root: Path) -> None:
    """`one` has been run again since, so `two` was made from something else than what is there now."""
    record(root, "three", "run-three")
    tags = {
        "run-one": {},
        "run-two": {"upstream.one": "older-one"},
        "run-three": {"upstream.one": "run-one", "upstream.two": "run-two"},
    }
    nodes = present_lineage(root, Runs(tags))
    assert nodes["two"].parents == {"one": "older-one"}
    assert nodes["two"].stale_parents(nodes) == ["one"]
    assert nodes["three"].parents == {"one": "run-one", "two": "run-two"}
    assert nodes["three"].stale_parents(nodes) == []


def test_without_a_store_the_metrics_files_tell(root: Path) -> None:
    nodes = present_lineage(root, NoRuns())
    assert nodes["two"].parents == {"one": "run-one"}
    assert nodes["two"].stale_parents(nodes) == []


def test_a_run_that_was_delivered_late_is_found_by_its_fingerprint(root: Path) -> None:
    """No server was there when `one` and `two` ran, so their files name no run."""
    record(root, "one", None)
    record(root, "two", None)
    late = {
        "late-one": {"fingerprint": "hash-one"},
        "late-two": {"fingerprint": "hash-two", "upstream.one": "unknown", "upstream_fingerprint.one": "hash-one"},
    }
    nodes = present_lineage(root, Runs(late))
    assert {name: node.run_id for name, node in nodes.items()} == {"one": "late-one", "two": "late-two"}
    assert nodes["two"].parents == {"one": "late-one"}
    assert nodes["two"].stale_parents(nodes) == []
    nodes = present_lineage(root, NoRuns())
    assert {name: node.run_id for name, node in nodes.items()} == {"one": None, "two": None}
    assert nodes["two"].parents == {"one": "unknown"}
    assert nodes["two"].stale_parents(nodes) == []


def test_a_parent_rerun_since_is_found_by_the_fingerprint_it_had_then(root: Path) -> None:
    tags = {
        "older-one": {"fingerprint": "older-hash"},
        "run-one": {"fingerprint": "hash-one"},
        "run-two": {"upstream.one": "unknown", "upstream_fingerprint.one": "older-hash"},
    }
    nodes = present_lineage(root, Runs(tags))
    assert nodes["two"].parents == {"one": "older-one"}
    assert nodes["two"].stale_parents(nodes) == ["one"]


def test_a_real_store_finds_the_last_finished_run(mlflow_store: str) -> None:
    client = open_store(mlflow_store)
    experiment_id = client.get_experiment_by_name("groundup").experiment_id
    made = [client.create_run(experiment_id, start, {"fingerprint": "abc"}).info.run_id for start in (1, 2, 3)]
    client.set_terminated(made[0])
    client.set_terminated(made[1])
    runs = StoredRuns(mlflow_store)
    assert runs.find(None, "abc") == made[1]
    assert runs.find(made[0], "abc") == made[0]
    assert runs.find("0" * 32, "abc") == made[1]
    assert runs.find("0" * 32, "other") == "0" * 32
    assert runs.find(None, "other") is None
    assert (runs.tags(made[0]) or {})["fingerprint"] == "abc"
    assert runs.tags("0" * 32) is None


def test_a_parent_that_nobody_knows(root: Path) -> None:
    (root / "metrics/one.json").unlink()
    nodes = present_lineage(root, NoRuns())
    assert nodes["two"].parents == {"one": "unknown"}
    assert nodes["two"].stale_parents(nodes) == []
