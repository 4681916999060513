"""A stage's processes on two nodes of a real Slurm: they meet, end with the stage, and go on in another job."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from groundup.runner import stage as runner
from groundup.runner.files import read_json
from groundup.runner.launch.jobs import PYTHON
from groundup.runner.launch.processes import ProcessError
from groundup.runner.workdir import FINISHED
from tests.runner.conftest import work_dirs
from tests.runner.launch.test_processes import (
    after_checkpoint,
    assert_ends_at_one_checkpoint,
    assert_went_on,
    body_here,
    seen,
    wait_for_checkpoint,
    write_stage,
)
from tests.slurm import cluster, why_not

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("no_deliverer")]


@pytest.fixture(scope="module")
def slurm_conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if reason := why_not():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("slurm")) as conf:
        yield conf


@pytest.fixture
def frame(root: Path, slurm_conf: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    for name, value in {"LAUNCHER": "slurm", "NODES": "2", "DEVICE": "cpu", "TIMEOUT": "120"}.items():
        monkeypatch.setenv(f"GROUNDUP_{name}", value)
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    return lambda: runner._run(root, "prepare", body_here)


def jobs() -> list[str]:
    return subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout.splitlines()


def assert_no_job_is_left() -> None:
    """An allocation that was given back is listed as completing until its nodes have said so."""
    deadline = time.monotonic() + 60
    while left := jobs():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_both_nodes_work_and_the_first_process_is_published(root: Path, frame: Callable[[], None]) -> None:
    write_stage(root)
    frame()
    assert seen(root) == ["2 4 6 8"] * 2
    assert (root / "artifacts/text/a.txt").read_text() == "a"
    (work,) = work_dirs(root)
    assert read_json(work / FINISHED)["metrics"]["num_documents"] == 1
    assert_no_job_is_left()


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("fail()", "no such row (process 1 of 2, counted from 0)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed without a word (Slurm says FAILED)"),
    ],
)
def test_one_that_fails_ends_the_job(root: Path, frame: Callable[[], None], deed: str, said: str) -> None:
    write_stage(root, deed)
    with pytest.raises(ProcessError, match=re.escape(said)):
        frame()
    assert not (root / "artifacts").exists()
    frame()
    assert_went_on(root)
    assert len(list((root / ".work/prepare").glob("*/scratch/slurm-*.log"))) == 2


def test_a_signal_to_the_stage_ends_the_job_at_a_checkpoint(root: Path, frame: Callable[[], None]) -> None:
    write_stage(root, pause=1.0)
    after_checkpoint(root, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert_ends_at_one_checkpoint(root, frame)
    assert_no_job_is_left()
    frame()
    assert [it.split()[-1] for it in seen(root)] == ["8", "8"]


def test_a_job_that_slurm_ends_is_followed_by_another(root: Path, frame: Callable[[], None]) -> None:
    """As at its time limit: Slurm signals the processes, which save a checkpoint."""
    write_stage(root, pause=1.0)

    def end_job() -> None:
        (job,) = (path.read_text() for path in (root / ".work/prepare").glob("*/scratch/processes/job"))
        subprocess.run(["scancel", "--signal=TERM", job], check=True)

    after_checkpoint(root, end_job)
    frame()
    first, second = seen(root)
    assert first == second
    assert first.split()[-1] == "8"


def test_the_job_of_a_killed_stage_ends_before_another_starts(root: Path, frame: Callable[[], None]) -> None:
    write_stage(root, pause=1.0)
    killed = subprocess.Popen([PYTHON, "-m", "stages.prepare"], cwd=root)
    try:
        wait_for_checkpoint(root)
    finally:
        killed.kill()
        killed.wait()
    assert len(jobs()) == 1
    frame()
    first, second = seen(root)
    assert first == second
    steps = list(map(int, first.split()))
    assert steps == sorted(set(steps))  # none was taken twice
    assert_no_job_is_left()
    assert len(work_dirs(root)) == 1


def test_inside_an_allocation_the_processes_are_a_step_of_it(root: Path, frame: Callable[[], None]) -> None:
    write_stage(root, pause=1.0)
    command = ["salloc", "--nodes=2", "--ntasks-per-node=1", PYTHON, "-m", "stages.prepare"]
    allocation = subprocess.Popen(command, cwd=root)
    try:
        wait_for_checkpoint(root)
        (stage,) = psutil.Process(allocation.pid).children()
        stage.send_signal(signal.SIGTERM)
        assert allocation.wait(120) == 128 + signal.SIGTERM
    finally:
        allocation.terminate()
        allocation.wait()
    first, second = seen(root)
    assert first == second
    subprocess.run(command, cwd=root, check=True)
    assert [it.split()[-1] for it in seen(root)] == ["8", "8"]
    assert_no_job_is_left()
