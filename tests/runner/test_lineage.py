"""The runs that made the current outputs, and the runs they came from."""

import shutil
from pathlib import Path

import pytest

from groundup.runner.figures import Record, write_record
from groundup.runner.files import write_json
from groundup.runner.lineage import Made, NotedRuns, StoredRuns, present_lineage
from groundup.runner.tracking.store import open_store

PIPELINE = """
stages:
  one:
    cmd: python -m stages.one
    deps: [data]
    outs: [artifacts/text]
    metrics: [metrics/one.json]
  two:
    desc: the model
    meta: {show: [loss]}
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
    """A result, and this machine's note of the run that made it."""
    write_record(root, stage, Record(f"hash-{stage}", {"loss": 1.5}))
    write_json(root / f".work/{stage}/hash-{stage}.json", {"mlflow_run_id": run_id, "stage_seconds": 1.0})


class Runs:
    """A store that has the runs of `tags`."""

    def __init__(self, tags: dict[str, dict[str, str]]) -> None:
        self.runs = tags

    def find(self, stage: str, fingerprint: str) -> str | None:
        return next((run for run, tags in self.runs.items() if tags.get("fingerprint") == fingerprint), None)

    def tags(self, run_id: str) -> dict[str, str]:
        return self.runs[run_id]


ONE, TWO = Made("hash-one", "run-one"), Made("hash-two", "run-two")


def test_nodes_stand_in_pipeline_order(root: Path) -> None:
    nodes = present_lineage(root, NotedRuns(root))
    assert list(nodes) == ["one", "two"]
    two = nodes["two"]
    assert (two.spec.name, two.made, two.spec.outs, two.figures) == ("two", TWO, ("artifacts/model",), {"loss": 1.5})
    assert (two.spec.title, two.spec.shown) == ("the model", ("loss",))
    assert two.parents == {"one": ONE}
    assert two.stale_parents(nodes) == []
    assert nodes["one"].parents == {}


def test_nothing_has_run(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    assert present_lineage(tmp_path, NotedRuns(tmp_path)) == {}


def test_parents_are_the_results_that_the_stage_read(root: Path) -> None:
    """`one` has made another result since, so `two` was made from something other than the current one."""
    record(root, "three", "run-three")
    store = {
        "older-one": {"fingerprint": "older-hash"},
        "run-one": {"fingerprint": "hash-one"},
        "run-two": {"fingerprint": "hash-two", "upstream_fingerprint.one": "older-hash"},
        "run-three": {
            "fingerprint": "hash-three",
            "upstream_fingerprint.one": "hash-one",
            "upstream_fingerprint.two": "hash-two",
        },
    }
    nodes = present_lineage(root, Runs(store))
    assert nodes["two"].parents == {"one": Made("older-hash", "older-one")}
    assert nodes["two"].stale_parents(nodes) == ["one"]
    assert nodes["three"].parents == {"one": ONE, "two": TWO}
    assert nodes["three"].stale_parents(nodes) == []
    del store["older-one"]  # as where its run was never delivered
    nodes = present_lineage(root, Runs(store))
    assert nodes["two"].parents == {"one": Made("older-hash", None)}
    assert nodes["two"].stale_parents(nodes) == ["one"]


def test_a_fresh_clone_with_a_shared_store_finds_the_runs(root: Path) -> None:
    shutil.rmtree(root / ".work")
    store = {"run-one": {"fingerprint": "hash-one"}, "run-two": {"fingerprint": "hash-two"}}
    nodes = present_lineage(root, Runs(store))
    assert {name: node.made for name, node in nodes.items()} == {"one": ONE, "two": TWO}
    assert nodes["two"].parents == {"one": ONE}


def test_a_fresh_clone_without_a_store_has_the_fingerprints(root: Path) -> None:
    shutil.rmtree(root / ".work")
    nodes = present_lineage(root, NotedRuns(root))
    assert nodes["two"].made == Made("hash-two", None)
    assert str(nodes["two"].made) == "fingerprint hash-two"
    assert nodes["two"].parents == {"one": Made("hash-one", None)}
    assert nodes["two"].stale_parents(nodes) == []


def test_a_real_store_finds_the_last_finished_run(mlflow_store: str) -> None:
    client = open_store(mlflow_store)
    experiment_id = client.get_experiment_by_name("groundup").experiment_id
    made = [client.create_run(experiment_id, start, {"fingerprint": "abc"}).info.run_id for start in (1, 2, 3)]
    runs = StoredRuns(mlflow_store)
    assert runs.find("sft", "abc") == made[2]
    client.set_terminated(made[0])
    client.set_terminated(made[1])
    assert runs.find("sft", "abc") == made[1]
    assert runs.find("sft", "other") is None
    assert runs.tags(made[0])["fingerprint"] == "abc"


def test_a_parent_that_nobody_knows(root: Path) -> None:
    (root / "metrics/one.json").unlink()
    nodes = present_lineage(root, NotedRuns(root))
    assert nodes["two"].parents == {"one": Made("unknown", None)}
    assert nodes["two"].stale_parents(nodes) == []
