"""What the processes of a stage's body are to the stage that waits for them: a job. Here those of this machine."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from groundup.runner.launch.settings import Launch

PYTHON = sys.executable
ASKED_TO_END = 128 + signal.SIGTERM  # exit code of a process, and of its torchrun, that SIGTERM has ended
END_SECONDS = 300  # between SIGTERM and SIGKILL: the time for a checkpoint


class JobError(RuntimeError):
    """The job could not be started."""


class Job(Protocol):
    def poll(self, seconds: float) -> int | None:
        """Its exit code; None if it has not ended after so many seconds."""

    def end(self) -> None:
        """Ask all processes to save a checkpoint and end."""

    def kill(self) -> None:
        """End what is left of it, so that no process goes on working."""

    def ended_by(self) -> str:
        """What is known of its end besides the exit code; empty if nothing is."""

    def is_cut_short(self, *, asked: bool) -> bool:
        """Whether it was ended from outside, so that another job should continue; asked: by SIGTERM to processes."""


def meeting(launch: Launch) -> list[str]:
    """Options of torchrun by which several machines find each other; where and for which job has to be added."""
    wait = f"join_timeout={round(launch.timeout)}"
    return ["--nnodes", str(launch.nodes), "--rdzv-backend", "c10d", "--rdzv-conf", wait]


def torchrun(launch: Launch, stage: str, meeting: Sequence[str]) -> list[str]:
    """`meeting`: the options by which the nodes find each other."""
    return [
        *(PYTHON, "-m", "groundup.runner.launch.torchrun", *meeting),
        *("--nproc-per-node", str(launch.processes), "--shutdown-timeout", str(END_SECONDS)),
        *("-m", f"stages.{stage}"),
    ]


class Torchrun:
    """A torchrun on this machine, in a session of its own, so that Ctrl-C reaches it once, from what waits for it.

    It inherits the lock of the work dir, which it keeps while a process still works there.
    """

    def __init__(self, command: Sequence[str], root: Path, environment: dict[str, str]) -> None:
        self._torchrun = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True, close_fds=False)
        self._children: set[psutil.Process] = set()

    def poll(self, seconds: float) -> int | None:
        try:
            return self._torchrun.wait(seconds)
        except subprocess.TimeoutExpired:
            with suppress(psutil.NoSuchProcess):
                self._children |= set(psutil.Process(self._torchrun.pid).children())
            return None

    def end(self) -> None:
        self._torchrun.terminate()

    def kill(self) -> None:
        if self._torchrun.returncode is None:
            self._children.add(psutil.Process(self._torchrun.pid))
        for process in self._children:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)  # to this very process: psutil compares when it was started
        self._torchrun.wait()

    def ended_by(self) -> str:
        return ""

    def is_cut_short(self, *, asked: bool) -> bool:
        return False


def local_command(launch: Launch, stage: str) -> list[str]:
    return torchrun(launch, stage, ["--standalone"])


def local_job(launch: Launch, stage: str, root: Path, folder: Path, environment: dict[str, str]) -> Job:
    return Torchrun(local_command(launch, stage), root, environment)
