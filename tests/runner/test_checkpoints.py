"""Checkpoints that are incomplete, altered or too large; a stage that is asked to end."""

import signal
import time
from pathlib import Path

import pytest

from groundup.runner.checkpoints import SEAL, Checkpoints, step_of
from groundup.runner.disk import DiskError
from groundup.runner.interruption import Interruption, Terminated


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", Interruption())


def save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        with checkpoints.saving(step) as folder:
            (folder / "model").write_bytes(b"model %d" % step)
            (folder / "deep").mkdir()
            (folder / "deep/optimizer").write_bytes(b"optimizer %d" % step)


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_there_is_none_at_first(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() is None


def test_the_newest_two_are_kept_by_number(checkpoints: Checkpoints) -> None:
    save(checkpoints, 8, 9, 10)
    assert names(checkpoints) == ["checkpoint-10", "checkpoint-9"]
    newest = checkpoints.newest()
    assert newest is not None
    assert step_of(newest) == 10
    assert (newest / "deep/optimizer").read_bytes() == b"optimizer 10"


DAMAGES = {
    "not sealed": lambda path: (path / SEAL).unlink(),
    "torn seal": lambda path: (path / SEAL).write_bytes((path / SEAL).read_bytes()[:-9]),
    "seal of another kind": lambda path: (path / SEAL).write_text("[]"),
    "binary seal": lambda path: (path / SEAL).write_bytes(b"\xff\xfe\x00"),
    "truncated": lambda path: (path / "model").write_bytes(b"mod"),
    "one bit": lambda path: (path / "model").write_bytes(b"model 3"),
    "missing file": lambda path: (path / "deep/optimizer").unlink(),
    "additional file": lambda path: (path / "deep/other").touch(),
    "empty folder": lambda path: [file.unlink() for file in path.rglob("*") if file.is_file()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_what_was_sealed_is_removed_and_the_one_before_it_used(
    checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    save(checkpoints, 1, 2)
    DAMAGES[damage](checkpoints.folder / "checkpoint-2")
    with caplog.at_level("INFO"):
        newest = checkpoints.newest()
    assert newest == checkpoints.folder / "checkpoint-1"
    assert names(checkpoints) == ["checkpoint-1"]
    removed, chosen = caplog.messages
    assert removed.startswith("removing checkpoint-2: ")
    assert chosen == "continuing from checkpoint-1"


def test_the_altered_file_is_named(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    save(checkpoints, 1)
    (checkpoints.folder / "checkpoint-1/deep/optimizer").write_bytes(b"other")
    assert checkpoints.newest() is None
    assert caplog.messages == ["removing checkpoint-1: deep/optimizer changed since it was written"]


def test_an_unsealed_one_does_not_push_out_a_sealed_one(checkpoints: Checkpoints) -> None:
    """A library that writes by itself dies in the middle of it, twice."""
    save(checkpoints, 1, 2)
    for step in (3, 4):
        (checkpoints.folder / f"checkpoint-{step}").mkdir()
    save(checkpoints, 5)
    assert {"checkpoint-2", "checkpoint-5"} <= set(names(checkpoints))


def test_a_crash_while_writing_leaves_the_ones_before(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1, 2)
    raised = pytest.raises(KeyError)
    with raised, checkpoints.saving(3) as folder:
        (folder / "model").touch()
        raise KeyError
    assert checkpoints.newest() == checkpoints.folder / "checkpoint-2"


def test_its_cost_is_measured(checkpoints: Checkpoints) -> None:
    with checkpoints.saving(1):
        time.sleep(0.05)
    assert 0.05 <= checkpoints.seconds < 5
    checkpoints.seal(1, time.monotonic() - 7)
    assert checkpoints.seconds > 7


def test_a_checkpoint_that_is_awaited_ends_the_stage_once_it_is_sealed(checkpoints: Checkpoints) -> None:
    raised = pytest.raises(Terminated)
    with raised as ended, checkpoints.training():
        save(checkpoints, 1)
        assert not checkpoints.is_end_requested_after(1)
        checkpoints.interruption.receive(signal.SIGTERM, None)
        assert checkpoints.is_end_requested_after(2)
        assert checkpoints.last_done == 2
        save(checkpoints, 2, 3)
    assert ended.value.code == 143
    assert checkpoints.newest() == checkpoints.folder / "checkpoint-2"


def test_too_little_space_is_said_before_training(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.runner.checkpoints.free_bytes", lambda folder: 39_999_990)
    checkpoints.require_space(10_000_000, 4_999_995)  # 3 x 10 MB + 2 x 5 MB
    with pytest.raises(DiskError, match=r"needs 40\.0 MB .*checkpoints, and 40\.0 MB are free: 3 checkpoints.*clean"):
        checkpoints.require_space(10_000_000, 5_000_000)
    save(checkpoints, 1)  # existing checkpoints need no further space
    checkpoints.require_space(10_000_000, 5_000_000)


def test_a_half_deleted_old_one_is_removed(checkpoints: Checkpoints) -> None:
    """A kill in the middle of its removal, which took the seal first."""
    save(checkpoints, 1, 2)
    (checkpoints.folder / "checkpoint-1" / SEAL).unlink()
    save(checkpoints, 3)
    assert names(checkpoints) == ["checkpoint-2", "checkpoint-3"]


def test_the_points_of_the_curve_reach_the_disk_before_the_seal(checkpoints: Checkpoints) -> None:
    sealed: list[bool] = []
    checkpoints.sync_points = lambda: sealed.append((checkpoints.folder / "checkpoint-1" / SEAL).exists())
    save(checkpoints, 1)
    assert sealed == [False]
