"""Reading dvc.yaml and dvc.lock."""

from pathlib import Path

import pytest

from groundup.runner.pipeline import (
    PipelineError,
    ancestry,
    lies_in,
    producer,
    read_pipeline,
    recorded_stage,
    upstream,
)

PIPELINE = """
stages:
  one:
    cmd: python -m stages.one
    deps: [data, src/groundup/a.py, stages/one.py]
    params: [prepare]
    outs: [artifacts/text]
    metrics:
      - metrics/one.json:
          cache: false
  two:
    cmd: python -m stages.two
    deps: [artifacts/text, metrics/one.json]
    outs: [artifacts/model]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    return tmp_path


def test_a_stage_is_read_with_its_options_stripped(root: Path) -> None:
    one = read_pipeline(root)["one"]
    assert one.metrics == ("metrics/one.json",)
    assert one.inputs == ("data",)
    assert one.code == ("src/groundup/a.py", "stages/one.py")


def test_upstream_follows_outs_and_metrics(root: Path) -> None:
    pipeline = read_pipeline(root)
    assert producer(pipeline, "artifacts/text/train.jsonl") == "one"
    assert producer(pipeline, "data") is None
    assert upstream(pipeline, "two") == ["one"]
    assert ancestry(pipeline, "two") == {"one": [], "two": ["one"]}
    assert ancestry(pipeline, "one") == {"one": []}


def test_a_name_that_only_begins_alike_is_another_path() -> None:
    assert lies_in("artifacts/text/train", "artifacts/text")
    assert not lies_in("artifacts/text2", "artifacts/text")


def test_recorded_outs(root: Path) -> None:
    assert recorded_stage(root, "one").outs == {}
    (root / "dvc.lock").write_text("stages:\n  one:\n    outs:\n    - path: artifacts/text\n      md5: abc.dir\n")
    assert recorded_stage(root, "one").outs == {"artifacts/text": "abc.dir"}
    assert recorded_stage(root, "two").outs == {}


def test_a_missing_pipeline_says_where_to_start_from(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="repository root"):
        read_pipeline(tmp_path)
