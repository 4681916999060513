"""Which run made the present outputs, and from which runs."""

from pathlib import Path

import pytest

from groundup.frame.files import write_json
from groundup.frame.lineage import present_lineage

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
    outs: [artifacts/report]
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


def test_nodes_stand_in_pipeline_order(root: Path) -> None:
    nodes = present_lineage(root, {}.get)
    assert list(nodes) == ["one", "two"]
    two = nodes["two"]
    assert (two.stage, two.run_id, two.fingerprint, two.outs) == ("two", "run-two", "hash-two", ("artifacts/model",))
    assert two.metrics["loss"] == 1.5
    assert nodes["one"].parents == {}


def test_nothing_has_run(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    assert present_lineage(tmp_path, {}.get) == {}


def test_parents_are_the_ones_tagged_when_the_stage_ran(root: Path) -> None:
    """`one` has been run again since, so `two` was made from something else than what is there now."""
    record(root, "three", "run-three")
    tags = {
        "run-one": {},
        "run-two": {"upstream.one": "older-one"},
        "run-three": {"upstream.one": "run-one", "upstream.two": "run-two"},
    }
    nodes = present_lineage(root, tags.get)
    assert nodes["two"].parents == {"one": "older-one"}
    assert nodes["two"].stale_parents(nodes) == ["one"]
    assert nodes["three"].parents == {"one": "run-one", "two": "run-two"}
    assert nodes["three"].stale_parents(nodes) == []


def test_without_a_store_the_metrics_files_tell(root: Path) -> None:
    nodes = present_lineage(root, lambda run_id: None)
    assert nodes["two"].parents == {"one": "run-one"}
    assert nodes["two"].stale_parents(nodes) == []


def test_a_run_without_mlflow_asks_no_store(root: Path) -> None:
    record(root, "two", None)
    asked: list[str] = []
    nodes = present_lineage(root, lambda run_id: asked.append(run_id))
    assert asked == ["run-one"]
    assert nodes["two"].run_id is None
    assert nodes["two"].parents == {"one": "run-one"}


def test_a_parent_that_nobody_knows(root: Path) -> None:
    (root / "metrics/one.json").unlink()
    nodes = present_lineage(root, lambda run_id: None)
    assert nodes["two"].parents == {"one": "unknown"}
    assert nodes["two"].stale_parents(nodes) == []
