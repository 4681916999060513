"""What `dvc repro` would do, on a pipeline of two stages that DVC has really run."""

import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.repo import Repo

from groundup.runner.fates import Fate, fates
from groundup.runner.pipeline import read_pipeline

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
UNCHANGED, CACHED, RUNS = Fate.UNCHANGED, Fate.CACHED, Fate.RUNS


def repro(root: Path) -> None:
    with chdir(root), Repo() as repo:
        repo.reproduce()


def look(root: Path) -> list[Fate]:
    """Twice, for looking changes nothing."""
    lock = (root / "dvc.lock").read_bytes() if (root / "dvc.lock").exists() else b""
    found = fates(root, read_pipeline(root))
    assert fates(root, read_pipeline(root)) == found
    assert ((root / "dvc.lock").read_bytes() if lock else b"") == lock
    assert list(found) == ["first", "second"]
    return list(found.values())


def write(root: Path, first: int, second: int) -> None:
    (root / "params.yaml").write_text(f"first: {first}\nsecond: {second}\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run with first 1 and 2; now at 2."""
    root = tmp_path_factory.mktemp("made")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    Repo.init(str(root))
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "source").write_text("text")
    write(root, 1, 1)
    assert look(root) == [RUNS, RUNS]
    repro(root)
    write(root, 2, 1)
    repro(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def test_nothing_to_do(root: Path) -> None:
    assert look(root) == [UNCHANGED, UNCHANGED]


def test_what_depends_on_a_new_value_runs(root: Path) -> None:
    write(root, 2, 5)
    assert look(root) == [UNCHANGED, RUNS]
    write(root, 5, 1)
    assert look(root) == [RUNS, RUNS]


def test_an_earlier_value_comes_from_the_run_cache_all_the_way_down(root: Path) -> None:
    write(root, 1, 1)
    assert look(root) == [CACHED, CACHED]
    write(root, 1, 5)
    assert look(root) == [CACHED, RUNS]
    write(root, 1, 1)
    repro(root)
    assert (root / "first.txt").read_text() == "first: 1\n"
    assert look(root) == [UNCHANGED, UNCHANGED]


def test_lost_outs_come_back_while_the_cache_has_them(root: Path) -> None:
    (root / "first.txt").unlink()
    (root / "second.txt").unlink()
    assert look(root) == [CACHED, CACHED]
    shutil.rmtree(root / ".dvc/cache/files")
    assert look(root) == [RUNS, RUNS]


def test_a_changed_or_missing_source_runs(root: Path) -> None:
    (root / "source").write_text("other")
    assert look(root) == [RUNS, RUNS]
    (root / "source").unlink()
    assert look(root) == [RUNS, RUNS]


def test_a_broken_pipeline_is_a_sentence(root: Path) -> None:
    pipeline = read_pipeline(root)
    (root / "dvc.yaml").write_text("stages: [")
    with pytest.raises(ValueError, match="DVC cannot say what would run"):
        fates(root, pipeline)
