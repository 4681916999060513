"""A stage's processes as a job of Slurm, with one torchrun a node."""

import logging
import shlex
import subprocess
import sys
import time
from pathlib import Path

from groundup.runner.files import write_text
from groundup.runner.interruption import POLL_SECONDS
from groundup.runner.launch.jobs import END_SECONDS, JobError, meeting, torchrun
from groundup.runner.launch.settings import Launch

logger = logging.getLogger(__name__)

JOB, LOG = "job", "slurm-%j.log"  # files: the id of the job, and its output, where Slurm puts the id for %j
INSIDE_JOB = "SLURM_JOB_ID"
OUTSIDE = ("TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REQUEUED")  # states of a job that Slurm ended
OVER = (*OUTSIDE, "COMPLETED", "FAILED", "CANCELLED", "OUT_OF_MEMORY", "DEADLINE")


def slurm_command(launch: Launch, stage: str) -> str:
    """A shell's lines. The nodes meet at the address of the first one, at a port that follows from the job."""
    where = '--rdzv-endpoint "$head:$((20000 + SLURM_JOB_ID % 20000))" --rdzv-id "$SLURM_JOB_ID"'
    first, _, rest = shlex.join(torchrun(launch, stage, meeting(launch))).partition(" --nproc-per-node")
    return (
        'head=$(scontrol show node "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)" -o'
        " | grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)\n"
        # srun does not inherit what the job asked for.
        '[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"\n'
        f"exec srun --nodes={launch.nodes} --ntasks={launch.nodes} --ntasks-per-node=1 --kill-on-bad-exit=1 "
        f"{first} {where} --nproc-per-node{rest}"
    )


def slurm_script(launch: Launch, stage: str, log: Path | str) -> str:
    """Slurm asks the processes to end before the time limit; then the stage starts another job."""
    options = [
        f"--job-name=groundup-{stage}",
        f"--nodes={launch.nodes}",
        "--ntasks-per-node=1",
        f"--signal=TERM@{END_SECONDS}",
        "--no-requeue",
        f"--output={log}",
        *launch.slurm,
    ]
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {option}" for option in options), slurm_command(launch, stage), ""])


class SlurmJob:
    """A job of Slurm; inside an allocation, a step of it. All nodes have to see the work dir."""

    def __init__(self, launch: Launch, stage: str, root: Path, folder: Path, environment: dict[str, str]) -> None:
        self._shown = 0
        self._state = ""
        script = folder / "job.sh"
        logs = folder.parent  # `folder` is emptied before each job
        write_text(script, slurm_script(launch, stage, logs / LOG))
        self._is_step = INSIDE_JOB in environment
        command = ["bash", str(script)] if self._is_step else ["sbatch", "--wait", "--parsable", str(script)]
        try:
            self._command = subprocess.Popen(
                command,
                cwd=root,
                env=environment,
                stdout=None if self._is_step else subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise JobError(
                "launcher is slurm, but there is no sbatch here: start the stage on a node of the cluster"
            ) from error
        self.id = environment.get(INSIDE_JOB, "")
        if not self._is_step:
            assert self._command.stdout
            self.id = self._command.stdout.readline().strip().partition(";")[0]
            if not self.id:
                raise JobError(f"Slurm refused the job of {stage}; it says why above, the job is {script}")
            write_text(folder / JOB, self.id)
        self._log = logs / LOG.replace("%j", self.id)

    def poll(self, seconds: float) -> int | None:
        try:
            code = self._command.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        self._show()
        return code

    def _show(self) -> None:
        """What the processes have written since the last time."""
        if not self._is_step and self._log.exists():
            with self._log.open("rb") as log:
                log.seek(self._shown)
                text = log.read()
            self._shown += len(text)
            sys.stderr.write(text.decode(errors="replace"))

    def end(self) -> None:
        if self._is_step:
            self._command.terminate()  # srun passes it on to its tasks
        else:
            end_job(self.id)

    def kill(self) -> None:
        if self._is_step:
            if self._command.poll() is None:
                self._command.kill()  # Slurm ends the tasks of a step without its srun
        elif job_state(self.id) not in ("", *OVER):
            subprocess.run(["scancel", self.id], check=False)
        self._command.wait()

    def ended_by(self) -> str:
        if self._is_step:
            return ""
        while (state := job_state(self.id)) == "COMPLETING":
            time.sleep(POLL_SECONDS)
        return state

    def is_cut_short(self, *, asked: bool) -> bool:
        """By a time limit, of which Slurm warns the processes, or a lost node."""
        state = self.ended_by()
        return state in OUTSIDE or (state == "FAILED" and asked)


def end_earlier(folder: Path) -> None:
    """A job outlives the stage that was killed while it waited for it, and would write to the same folders."""
    if not (folder / JOB).exists():
        return
    number = (folder / JOB).read_text(encoding="utf-8")
    if job_state(number) not in ("", *OVER):
        logger.info("job %s of an earlier run is still there: it saves a checkpoint and ends first", number)
        end_job(number)
        while job_state(number) not in ("", *OVER):
            time.sleep(POLL_SECONDS)


def end_job(number: str) -> None:
    """Ask the processes of a Slurm job to save and end; one that waits still is cancelled."""
    subprocess.run(["scancel", "--state=PENDING", number], check=False)
    subprocess.run(["scancel", "--signal=TERM", number], check=False)


def job_state(number: str) -> str:
    """As Slurm calls it; empty if it does not know the job any more. JobError if it does not answer."""
    found = subprocess.run(["scontrol", "show", "job", "-o", number], capture_output=True, text=True, check=False)
    if found.returncode and "Invalid job id" not in found.stderr:
        raise JobError(f"Slurm does not say whether job {number} still runs: {found.stderr.strip()}")
    fields = dict(part.partition("=")[::2] for part in found.stdout.split())
    return fields.get("JobState", "")
