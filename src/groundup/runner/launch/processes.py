"""A stage's body in several processes: the stage's own process, the frame, starts a job that runs them, and waits."""

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from groundup.runner.context import StageContext
from groundup.runner.environment import (
    DETERMINISM,
    NO_COMPILATION,
    OMP_THREADS,
    ROLLOUTS,
    STRATEGY,
    TIMEOUT,
    TORCHRUN_LOGS,
    WORK_DIR,
)
from groundup.runner.files import read_json, remove
from groundup.runner.interruption import POLL_SECONDS, Terminated
from groundup.runner.launch.jobs import ASKED_TO_END, Job
from groundup.runner.launch.launchers import LAUNCHERS
from groundup.runner.launch.rank import ENDED, FAILED, FOLDER, RESULT
from groundup.runner.launch.settings import Launch
from groundup.runner.launch.slurm import end_earlier

logger = logging.getLogger(__name__)

FAILED_SECONDS = 5  # between the failure of one process and SIGKILL to the others


class ProcessError(RuntimeError):
    """One of the processes of a stage's body failed or was killed, and so all were ended."""


def call_in_processes(stage: StageContext, launch: Launch) -> dict[str, Any]:
    """What the body returned to the first process. SIGTERM and Ctrl-C are passed on, and the stage ends with them.

    A job that Slurm has ended, for its time limit or a lost node, is followed by another one that continues, as long
    as each of them gets to a new checkpoint or finishes a sub-step.
    """
    folder = stage.work / FOLDER
    end_earlier(folder)
    environment = os.environ | {
        WORK_DIR: str(stage.folder),
        TIMEOUT: str(launch.timeout),
        STRATEGY: launch.strategy,
        ROLLOUTS: " ".join(launch.rollouts),
        TORCHRUN_LOGS: "CRITICAL",  # what failed is said here
        OMP_THREADS: os.environ.get(OMP_THREADS, "1"),  # libraries take all cores without it; stages set their number
        **({} if launch.compile else {NO_COMPILATION: "1"}),
        **(DETERMINISM if launch.deterministic else {}),
    }
    while True:
        remove(folder)
        folder.mkdir(parents=True)
        before = stage.progress
        with stage.checkpoints.interruption.deferred():
            job = LAUNCHERS[launch.launcher].start(launch, stage.spec.name, stage.root, folder, environment)
            code = _wait(job, stage)
        if code == 0:
            metrics: dict[str, Any] = read_json(folder / RESULT)
            return metrics
        reason, now = job.ended_by(), stage.progress
        if _failures(folder):
            raise _failure(folder, launch.num_processes, reason)
        asked = code == ASKED_TO_END or (code != -signal.SIGKILL and (folder / ENDED).exists())
        asked = asked and not (folder / FAILED).exists()
        if job.is_cut_short(asked=asked) and now > before:
            logger.info("%s: the job ended (%s) after step %d: another one continues", stage.spec.name, reason, now)
        elif asked:  # a signal reached the processes, and not this one
            raise Terminated(ASKED_TO_END)
        else:
            raise _failure(folder, launch.num_processes, reason)


def _wait(job: Job, stage: StageContext) -> int:
    told = False
    deadline = float("inf")
    try:
        while time.monotonic() < deadline:
            if (code := job.poll(POLL_SECONDS)) is not None:
                return code
            if stage.checkpoints.is_end_requested and not told:
                job.end()
                told = True
            if deadline == float("inf") and _failures(stage.work / FOLDER):  # nothing that the others do will be used
                deadline = time.monotonic() + FAILED_SECONDS
        return 1
    finally:  # a second signal, or torchrun was killed: no process may go on working there
        job.kill()


def _failures(folder: Path) -> list[Path]:
    """The first one first."""
    return sorted(folder.glob("failure-*.json"), key=lambda path: path.stat().st_mtime_ns)


def _failure(folder: Path, num_processes: int, reason: str) -> ProcessError:
    """The first failure that a process noted: others fail because they waited for that process.

    reason: as Job.ended_by.
    """
    notes = _failures(folder)
    if not notes:
        said = f" (Slurm says {reason})" if reason else ""
        return ProcessError(
            f"one of the {num_processes} processes was killed without a word{said} or could not be reached, and the "
            "others were ended. If memory is short (`groundup plan`), lower processes or the batch size; `dvc repro` "
            "continues from the newest checkpoint"
        )
    note = read_json(notes[0])
    where = "" if note["rank"] is None else f" (process {note['rank']} of {num_processes}, counted from 0)"
    return ProcessError(f"{note['message']}{where}")
