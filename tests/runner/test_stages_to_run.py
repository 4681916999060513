"""The stages that `dvc repro` would run, on a pipeline of two stages that DVC has really run."""

import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.repo import Repo

from groundup.runner.pipeline import PipelineError, read_pipeline, stages_to_run

PIPELINE = """\
stages:
  first:
    cmd: grep first params.yaml > first.txt
    params: [first]
    deps: [source]
    outs: [first.txt]
  second:
    cmd: cat first.txt > second.txt && grep second params.yaml >> second.txt
    params: [second]
    deps: [first.txt]
    outs: [second.txt]
"""
BOTH = {"first", "second"}


def repro(root: Path) -> None:
    with chdir(root), Repo() as repo:
        repo.reproduce()


def look(root: Path) -> set[str]:
    """Which changes nothing."""
    lock = (root / "dvc.lock").read_bytes() if (root / "dvc.lock").exists() else b""
    found = stages_to_run(root, read_pipeline(root))
    assert ((root / "dvc.lock").read_bytes() if lock else b"") == lock
    return found


def write(root: Path, first: int, second: int) -> None:
    (root / "params.yaml").write_text(f"first: {first}\nsecond: {second}\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run once."""
    root = tmp_path_factory.mktemp("made")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    Repo.init(str(root))
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "source").write_text("text")
    write(root, 1, 1)
    assert look(root) == BOTH
    repro(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def test_what_changed_runs_and_all_below_it(root: Path) -> None:
    assert look(root) == set()
    write(root, 1, 5)
    assert look(root) == {"second"}
    write(root, 5, 1)
    assert look(root) == BOTH


def test_lost_outs_are_made_again(root: Path) -> None:
    (root / "second.txt").unlink()
    assert look(root) == {"second"}
    (root / "first.txt").unlink()
    assert look(root) == BOTH


def test_a_changed_or_missing_source_runs(root: Path) -> None:
    (root / "source").write_text("other")
    assert look(root) == BOTH
    (root / "source").unlink()
    assert look(root) == BOTH


def test_a_broken_pipeline_is_a_sentence(root: Path) -> None:
    pipeline = read_pipeline(root)
    (root / "dvc.yaml").write_text("stages: [")
    with pytest.raises(PipelineError, match=r"`dvc status --json` failed: .*dvc\.yaml"):
        stages_to_run(root, pipeline)
