"""A body in several processes: torchrun starts them, and the frame ends, fails and publishes as if they were one."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from groundup.runner import stage as runner
from groundup.runner.context import StageContext
from groundup.runner.files import read_json
from groundup.runner.interruption import Terminated
from groundup.runner.launch.jobs import PYTHON
from groundup.runner.launch.processes import ProcessError
from groundup.runner.lock import lock_path, try_lock
from groundup.runner.workdir import FINISHED
from tests.runner.conftest import work_dirs

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("no_deliverer")]

# Every process writes what it saw; `deed` is what one of them does at step 3, `early` what all do before they train.
STAGE = """
import json, os, signal, sys, time
from groundup.runner.stage import run_stage

def fail():
    raise ValueError("no such row")

def main(stage):
    ranks = stage.checkpoints.processes
    rank = int(os.environ.get("RANK", 0))
    early()
    newest = stage.checkpoints.newest()
    with stage.checkpoints.training():
        for step in range(int(newest.name.partition("-")[2]) + 1 if newest else 1, 9):
            stage.log(step, loss=1.0 / step + rank)
            if step == 3 and newest is None and rank == 1:
                deed()
            is_end = stage.checkpoints.is_end_requested_after(step)
            if is_end or step % 2 == 0:
                with stage.checkpoints.saving(step) as folder:
                    if ranks.is_first:
                        (folder / "step").write_text(str(step))
                    seen = stage.work / f"seen-{rank}"
                    seen.write_text(seen.read_text() + f" {step}" if seen.exists() else str(step))
            time.sleep(pause)
    if not ranks.is_first:
        return {}
    for out in ("artifacts/text", "artifacts/reports/prepare"):
        stage.out(out).mkdir()
        (stage.out(out) / "a.txt").write_text("a")
    return {"num_documents": 1}

if __name__ == "__main__":
    run_stage("prepare", main)
"""


def write_stage(root: Path, deed: str = "pass", pause: float = 0.0, early: str = "pass") -> None:
    text = STAGE.replace("deed()", deed).replace("pause", str(pause)).replace("early()", early)
    (root / "stages/prepare.py").write_text(text, encoding="utf-8")


def body_here(stage: StageContext) -> dict[str, Any]:
    raise AssertionError("the frame runs no body")


class Frame:
    """The stage's own process. It notes the processes below it, which belong to no one once torchrun has ended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.below: set[psutil.Process] = set()

    def __call__(self) -> None:
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(0.1):
                self.below |= set(psutil.Process().children(recursive=True))

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            runner._run(self.root, "prepare", body_here)
        finally:
            is_over.set()
            watching.join()

    def left(self) -> list[psutil.Process]:
        """Those that still run."""
        assert len(self.below) >= 3  # torchrun and two
        alive: list[psutil.Process] = psutil.wait_procs(self.below, timeout=30)[1]
        return alive


@pytest.fixture
def frame(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Frame]:
    monkeypatch.setenv("GROUNDUP_PROCESSES", "2")
    monkeypatch.setenv("GROUNDUP_TIMEOUT", "60")
    made = Frame(root)
    yield made
    kill(made.below)


def seen(root: Path) -> list[str]:
    """The steps at which each process saved."""
    return [path.read_text() for path in sorted((root / ".work/prepare").glob("*/scratch/seen-*"))]


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for_checkpoint(root: Path) -> None:
    deadline = time.monotonic() + 120
    while not seen(root):
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.1)


def after_checkpoint(root: Path, act: Callable[[], Any]) -> None:
    """Act once there is a checkpoint, beside what the test does."""

    def wait_and_act() -> None:
        wait_for_checkpoint(root)
        act()

    threading.Thread(target=wait_and_act, daemon=True).start()


def assert_ends_at_one_checkpoint(root: Path, frame: Callable[[], None]) -> None:
    """By a signal to the frame."""
    with pytest.raises(Terminated) as ended:
        frame()
    assert ended.value.code == 128 + signal.SIGTERM
    first, second = seen(root)
    assert first == second


def assert_went_on(root: Path) -> None:
    """From step 2, or from a later one that the others saved before they were ended."""
    first, second = seen(root)
    for steps in (first.split(), second.split()):
        assert steps == sorted(steps)
        assert {"2", "4", "6", "8"} <= set(steps)
        assert steps.count("2") == 1


def test_both_work_and_the_first_one_is_published(root: Path, frame: Frame) -> None:
    write_stage(root)
    frame()
    assert seen(root) == ["2 4 6 8"] * 2
    assert (root / "artifacts/text/a.txt").read_text() == "a"
    rows = (root / "metrics/prepare.csv").read_text().splitlines()
    assert rows[:3] == ["step,loss", "1,1", "2,0.5"]
    assert len(rows) == 9
    (work,) = work_dirs(root)
    metrics = read_json(work / FINISHED)["metrics"]
    assert metrics["num_documents"] == 1
    assert metrics[runner.PEAK_MEMORY] > 100  # of the process that trained: it holds torch
    assert frame.left() == []


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("fail()", "no such row (process 1 of 2, counted from 0)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "one of the 2 processes was killed without a word"),
        ("os.kill(os.getppid(), signal.SIGKILL)", "one of the 2 processes was killed without a word"),
    ],
)
def test_one_that_fails_ends_all(root: Path, frame: Frame, deed: str, said: str) -> None:
    write_stage(root, deed)
    with pytest.raises(ProcessError, match=re.escape(said)):
        frame()
    assert frame.left() == []
    assert not (root / "artifacts").exists()
    frame()
    assert_went_on(root)


def test_one_that_fails_before_the_others_train_is_heard(root: Path, frame: Frame) -> None:
    write_stage(root, early="rank == 1 and fail() or time.sleep(5)")
    with pytest.raises(ProcessError, match=r"no such row \(process 1 of 2"):
        frame()
    assert frame.left() == []


def test_a_signal_ends_all_at_the_same_checkpoint(root: Path, frame: Frame) -> None:
    write_stage(root, pause=0.5)
    after_checkpoint(root, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert_ends_at_one_checkpoint(root, frame)
    assert frame.left() == []
    frame()
    assert [it.split()[-1] for it in seen(root)] == ["8", "8"]


def test_a_signal_to_torchrun_alone_ends_a_stage_that_has_no_checkpoints(root: Path, frame: Frame) -> None:
    write_stage(root, early='(stage.work / f"started-{rank}").touch() or time.sleep(100)')

    def end_torchrun() -> None:
        while len(list((root / ".work/prepare").glob("*/scratch/started-*"))) < 2:
            time.sleep(0.1)
        for process in frame.below:
            with suppress(psutil.Error):  # it has ended
                if "groundup.runner.launch.torchrun" in process.cmdline():
                    process.terminate()

    threading.Thread(target=end_torchrun, daemon=True).start()
    with pytest.raises(Terminated) as ended:
        frame()
    assert ended.value.code == 128 + signal.SIGTERM
    assert frame.left() == []


def test_one_that_hangs_ends_all_within_the_deadline(
    root: Path, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDUP_TIMEOUT", "3")
    write_stage(root, "time.sleep(600)")
    start = time.monotonic()
    with pytest.raises(ProcessError, match=r"process 0 waited 3 s for another one in Ranks\.any, after step 3 \("):
        frame()
    assert time.monotonic() - start < 60
    assert frame.left() == []


def test_without_its_frame_no_process_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stage(root, pause=1.0)
    environment = os.environ | {"GROUNDUP_PROCESSES": "2"}
    frame = subprocess.Popen([PYTHON, "-m", "stages.prepare"], cwd=root, env=environment)
    try:
        wait_for_checkpoint(root)
        workers = psutil.Process(frame.pid).children(recursive=True)
    finally:
        frame.kill()
        frame.wait()
    assert len(workers) >= 3  # torchrun and two
    (work,) = work_dirs(root)
    with try_lock(lock_path(work)) as free:
        assert not free  # torchrun holds it still
    assert not psutil.wait_procs(workers, timeout=30)[1]
    with try_lock(lock_path(work)) as free:
        assert free
    assert len(set(seen(root))) == 1
