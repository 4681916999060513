"""The spool: whole events in order, curves without gaps or duplicates."""

import os
import resource
from pathlib import Path

import pytest

from groundup.runner.tracking.spool import EVENTS, Spool, curve_csv, is_delivered, read_curve, read_events


def test_events_come_back_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write("point", step=1, values={"loss": 2.0})
    spool.write("finish", status="FINISHED")
    assert [event["kind"] for event in read_events(tmp_path / EVENTS, 0)] == ["point", "finish"]
    assert [event["kind"] for event in read_events(tmp_path / EVENTS, 1)] == ["finish"]
    assert not is_delivered(tmp_path)


@pytest.mark.tried("MLflow", "a line of the spool is written in part")
def test_a_half_written_line_of_a_killed_run_is_cut_off(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write("point", step=1, values={"loss": 2.0})
    with (tmp_path / EVENTS).open("a") as file:
        file.write('{"kind": "poi')
    resumed = Spool(tmp_path)
    resumed.write("point", step=2, values={"loss": 1.0})
    assert [row["step"] for row in read_curve(tmp_path)] == [1, 2]


@pytest.mark.tried("MLflow", "a line of the spool is written in part")
def test_a_write_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write("point", step=1, values={"loss": 2.0})
    whole = (tmp_path / EVENTS).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))  # as if there were room for ten bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.write("point", step=2, values={"loss": 9.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / EVENTS).read_bytes() == whole
    resumed = Spool(tmp_path)
    resumed.write("point", step=2, values={"loss": 1.0})
    assert [row["loss"] for row in read_curve(tmp_path)] == [2.0, 1.0]


def test_a_step_logged_again_after_a_resume_counts_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for step, loss in [(10, 3.0), (20, 2.0), (10, 3.0), (20, 2.0), (30, 1.0)]:
        spool.write("point", step=step, values={"loss": loss})
    spool.write("point", step=20, values={"val_loss": 2.5})
    assert curve_csv(read_curve(tmp_path)) == "step,loss,val_loss\n10,3,\n20,2,2.5\n30,1,\n"


def test_sync_reaches_the_file_and_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inodes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: inodes.append(os.fstat(descriptor).st_ino))
    spool = Spool(tmp_path)
    spool.write("finish", status="FINISHED")
    spool.sync()
    assert inodes == [(tmp_path / EVENTS).stat().st_ino, tmp_path.stat().st_ino]
