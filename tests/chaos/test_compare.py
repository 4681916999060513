"""A comparison that finds nothing proves nothing unless it finds planted differences."""

import json
from pathlib import Path

import pytest

from groundup.runner.pipeline import StageSpec
from tests.chaos.compare import differing_files, shown
from tests.chaos.events import Event
from tests.chaos.measure import instant, seconds_lost, tear, trained, went_on_from

SPEC = StageSpec("sft", (), (), ("artifacts/sft",), ("metrics/sft.json",), ("metrics/sft.csv",))
LOCK = (
    "stages:\n  sft:\n    outs:\n    - {path: artifacts/sft, md5: aa.dir}\n    - {path: metrics/sft.json, md5: bb}\n"
)


def tree(root: Path) -> Path:
    for name, text in {
        "artifacts/base/config.json": "{}",
        "artifacts/sft/weights": "123",
        "metrics/base.json": "{}",
        "metrics/sft.csv": "step\n1\n",
        "metrics/sft.json": json.dumps({"loss": 1.5}),
        "dvc.lock": LOCK,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path, Path]:
    """(resumed, uninterrupted, before the stage)"""
    before = tree(tmp_path / "before")
    for name in ("artifacts/sft/weights", "metrics/sft.csv", "metrics/sft.json", "dvc.lock"):
        (before / name).unlink()
    return tree(tmp_path / "resumed"), tree(tmp_path / "whole"), before


def test_equal_trees_differ_in_nothing(trees: tuple[Path, Path, Path]) -> None:
    resumed, whole, before = trees
    assert differing_files(resumed, whole, before, SPEC) == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("artifacts/sft/weights", "124", "artifacts/sft/weights differs: '124', uninterrupted '123'"),
        ("artifacts/sft/weights", None, "artifacts/sft/weights is missing"),
        ("artifacts/.sft.publishing/weights", "1", "artifacts/.sft.publishing/weights was left behind"),
        ("artifacts/base/config.json", "{ }", "artifacts/base/config.json differs: '{ }', uninterrupted '{}'"),
        ("metrics/sft.csv", "step\n1\n2\n", "metrics/sft.csv differs: another length"),
        ("metrics/sft.json", '{"loss": 1.25}', "metrics/sft.json differs"),
        ("dvc.lock", LOCK.replace("aa", "dd"), "dvc.lock differs in artifacts/sft"),
        ("dvc.lock", LOCK.replace("bb", "dd"), "dvc.lock differs in metrics/sft.json"),
    ],
)
def test_a_planted_difference_is_found(
    trees: tuple[Path, Path, Path], name: str, text: str | None, problem: str
) -> None:
    resumed, whole, before = trees
    (resumed / name).parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        (resumed / name).unlink()
    else:
        (resumed / name).write_text(text, encoding="utf-8")
    found = differing_files(resumed, whole, before, SPEC)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_double_and_missing_points_are_told() -> None:
    assert shown([(1, 0.5), (1, 0.5), (2, 0.4)], [(1, 0.5), (2, 0.4), (3, 0.3)]) == (
        "too many [(1, 0.5), (1, 0.5)], too few [(3, 0.3)]"
    )
    assert shown({"a": "1"}, {"a": "2", "b": "3"}) == "a 1, uninterrupted 2, b None, uninterrupted 3"


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        ([10, 20, 30], [40], 30),
        ([10, 20, 30], [30, 40], 20),
        ([10, 20], [10, 20, 30], 0),
        ([], [10, 20], 0),
        ([10, 20, 30, 40], [], 40),
    ],
)
def test_where_it_went_on(before: list[int], after: list[int], step: int) -> None:
    assert went_on_from([10, 20, 30, 40], before, after) == step


def event(time: float, name: str, path: str, mode: str = "write") -> Event:
    return Event(time, 7, "stage", "sft", name, mode, path)


def test_seconds_lost_count_from_the_last_kept_file() -> None:
    started = event(1.0, "open", "src/groundup/sft/sft.py", "read")
    kept = event(4.0, "os.rename", ".work/sft/0123/scratch/checkpoint-10")
    torn = event(6.0, "open", ".work/sft/0123/scratch/checkpoint-20.tmp")
    kill = event(6.5, "kill", "0.250000 9 self", "kill")
    late = event(9.0, "os.rename", ".work/sft/0123/scratch/checkpoint-20")  # of a process that died later
    assert seconds_lost([started, kept, torn, kill, late], kill, "sft", None) == 2.75
    assert seconds_lost([started, torn, kill], kill, "sft", None) == 5.75


def test_seconds_lost_count_from_the_step_it_went_on_from() -> None:
    started = event(1.0, "open", "src/groundup/sft/sft.py", "read")
    kept = event(4.0, "os.rename", ".work/sft/0123/scratch/checkpoint-20")  # which turned out to be torn
    kill = event(6.5, "kill", "0.000000 9 self", "kill")
    assert seconds_lost([started, kept, kill], kill, "sft", 2.5) == 4.0
    assert seconds_lost([started, kept, kill], kill, "sft", 0.0) == 5.5  # from the start


def test_an_export_shows_that_it_trained() -> None:
    assert trained([event(1.0, "open", ".work/sft/0123/export/artifacts/sft/weights")], "sft")
    assert not trained([event(1.0, "open", ".work/sft/0123/export/artifacts/sft/weights", "read")], "sft")
    assert not trained([event(1.0, "open", "artifacts/.sft.publishing/weights")], "sft")


def test_an_instant_is_told_without_what_differs_between_runs() -> None:
    access = event(1.0, "os.rename", ".work/sft/0123456789abcdef/scratch/checkpoint-10")
    at, after = event(1.0, "kill", "0.000000 9 self", "kill"), event(1.0, "kill", "0.250000 9 self", "kill")
    assert instant([access, at], at) == "at os.rename .work/*/scratch/checkpoint-10"
    assert instant([access, after], after) == "0.250 s after os.rename .work/*/scratch/checkpoint-10"


def test_the_newest_checkpoint_is_torn(tmp_path: Path) -> None:
    folder = tmp_path / "0123/scratch/trainer"
    for step in (10, 20):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        (folder / f"checkpoint-{step}/optimizer.pt").write_bytes(b"x" * 4000)
    (folder / "checkpoint-20/note").write_bytes(b"x")
    assert tear(tmp_path) == "trainer/checkpoint-20/optimizer.pt"
    assert (folder / "checkpoint-20/optimizer.pt").stat().st_size == 2000
    assert (folder / "checkpoint-10/optimizer.pt").stat().st_size == 4000
