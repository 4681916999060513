"""Pretraining that is killed, asked to end or out of disk resumes to the same bytes and the same curve."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from groundup.pretrain.pretrain import PretrainModule
from groundup.runner.disk import DiskError
from groundup.runner.interruption import Terminated
from tests.pretrain.test_pretrain import PRETRAIN, run
from tests.resume import Crash, Curve, Wholes, names, saved_bytes
from tests.small_disk import fill, make_read_only, make_writable, small_disk


@pytest.fixture(scope="module")
def whole(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    return Wholes(partial(run, inputs), tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("optimizer", "accumulate", "crash_at"), [("muon", 1, 5), ("adamw", 1, 1), ("muon", 2, 8), ("adamw", 2, 3)]
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    inputs: dict[str, Path], whole: Wholes, tmp_path: Path, optimizer: str, accumulate: int, crash_at: int
) -> None:
    params = PRETRAIN.model_copy(update={"optimizer": optimizer, "accumulate": accumulate})
    expected, cut = whole(params), Curve()
    cut.crash_at = crash_at
    with pytest.raises(Crash):
        run(inputs, tmp_path / "cut", cut, params)
    saved = [step for step in (2, 4, 6) if step < crash_at]
    assert names(tmp_path / "cut") == [f"checkpoint-{step}" for step in saved[-2:]]
    metrics = run(inputs, tmp_path / "cut", cut, params)
    assert saved_bytes(expected.folder) == saved_bytes(tmp_path / "cut")
    assert cut.rows == expected.rows
    assert metrics["val_bits_per_byte"] == expected.metrics["val_bits_per_byte"]


@pytest.mark.parametrize(("accumulate", "batch"), [(1, 2), (2, 4), (2, 5)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step_and_nothing_is_lost(
    inputs: dict[str, Path],
    whole: Wholes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accumulate: int,
    batch: int,
    number: signal.Signals,
) -> None:
    """A real signal in the middle of a forward pass, after Lightning has installed its own handler."""
    params = PRETRAIN.model_copy(update={"accumulate": accumulate, "checkpoint_every": 100})
    expected, cut = whole(params), Curve()
    training_step = PretrainModule.training_step

    def interrupted(module: PretrainModule, rows: Any, batch_index: int) -> Any:
        if batch_index == batch:
            os.kill(os.getpid(), number)
        return training_step(module, rows, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainModule, "training_step", interrupted)
        with pytest.raises(Terminated) as ended:
            run(inputs, tmp_path / "cut", cut, params)
    assert ended.value.code == 128 + number
    assert names(tmp_path / "cut") == ["checkpoint-3"]  # the step that the batch belonged to, and all of it
    run(inputs, tmp_path / "cut", cut, params)
    assert saved_bytes(expected.folder) == saved_bytes(tmp_path / "cut")
    assert cut.rows == expected.rows


def test_a_run_killed_after_its_last_step_does_not_train_again(
    inputs: dict[str, Path], whole: Wholes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole(PRETRAIN)
    with monkeypatch.context() as patch:
        patch.delattr("groundup.pretrain.pretrain.write_samples")
        with pytest.raises(NameError):
            run(inputs, tmp_path / "cut", Curve())
    again = Curve()
    run(inputs, tmp_path / "cut", again)
    assert again.rows == {}
    assert saved_bytes(expected.folder) == saved_bytes(tmp_path / "cut")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_disk_that_fails_in_training_costs_nothing_but_the_steps_since_the_checkpoint(
    inputs: dict[str, Path], whole: Wholes, tmp_path: Path, read_only: bool
) -> None:
    expected = whole(PRETRAIN)
    with small_disk(tmp_path / "cut/work", megabytes=4) as disk:

        class CurveThatSpoilsTheDisk(Curve):
            def __call__(self, step: int, **values: float) -> None:
                super().__call__(step, **values)
                if step == 5:
                    make_read_only(disk) if read_only else fill(disk, leave_bytes=20_000)

        cut = Curve()
        spoiled = CurveThatSpoilsTheDisk()
        with pytest.raises(DiskError, match=rf"a checkpoint could not be written to {disk}: the disk is"):
            run(inputs, tmp_path / "cut", spoiled)
        if read_only:
            make_writable(disk)
        else:
            assert names(tmp_path / "cut") == ["checkpoint-2", "checkpoint-4"]  # nothing of the third takes room
            with pytest.raises(DiskError, match=r"training needs .* are free: 3 checkpoints"):
                run(inputs, tmp_path / "cut", Curve())
            (disk / "ballast").unlink()
        run(inputs, tmp_path / "cut", cut)
    assert saved_bytes(expected.folder) == saved_bytes(tmp_path / "cut")
    assert spoiled.rows | cut.rows == expected.rows
