"""One process of a stage's body: it finds the others, and tells the frame what it returned or why it failed."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from groundup.runner.checkpoints import Processes
from groundup.runner.context import StageContext
from groundup.runner.device import set_up_compilation, show_own_gpu
from groundup.runner.environment import LOCAL_RANK, LOCAL_WORLD_SIZE, NO_COMPILATION, RANK, TIMEOUT, WORK_DIR
from groundup.runner.files import write_json
from groundup.runner.workdir import SCRATCH

T = TypeVar("T")

FOLDER = "processes"  # in the scratch folder: what the processes tell the frame
RESULT, ENDED, FAILED = "result.json", "ended", "failed"
LOST, TIMED_OUT = ("Connection closed by peer", "Connection reset by peer", "Broken pipe"), "Timed out waiting"


def own_work_dir() -> Path | None:
    """The work dir that this process helps to fill; None in a frame."""
    return Path(os.environ[WORK_DIR]) if WORK_DIR in os.environ else None


class Ranks(Processes):
    """The processes that torchrun started, this one among them."""

    def __init__(self, device: str) -> None:
        import torch  # the frame does without

        # To libraries each process is a machine with one device.
        local_rank = int(os.environ[LOCAL_RANK])
        os.environ |= {LOCAL_RANK: "0", LOCAL_WORLD_SIZE: "1"}
        if device == "cuda":
            show_own_gpu(local_rank)
            set_up_compilation(wanted=NO_COMPILATION not in os.environ)
        self._torch = torch
        torch.distributed.init_process_group(
            backend="cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            timeout=timedelta(seconds=float(os.environ[TIMEOUT])),
        )
        self.is_first = torch.distributed.get_rank() == 0

    def any(self, flag: bool) -> bool:
        found = self._torch.tensor(int(flag))
        self._torch.distributed.all_reduce(found, self._torch.distributed.ReduceOp.MAX)
        return bool(found)

    def from_first(self, find: Callable[[], T]) -> T:
        found = [find() if self.is_first else None]
        self._torch.distributed.broadcast_object_list(found, src=0)
        return cast(T, found[0])

    def wait(self) -> None:
        self.any(False)

    def leave(self, code: int = 0) -> NoReturn:
        """End this process with this exit code, together with the others: torchrun gives the last ones five minutes.

        At once, since libraries hold groups still, whose threads may abort an ordinary exit.
        """
        self.wait()
        self._torch.distributed.destroy_process_group()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def note_result(stage: StageContext, metrics: dict[str, Any]) -> None:
    """For the frame, if this is the first process."""
    if stage.checkpoints.processes.is_first:
        write_json(stage.work / FOLDER / RESULT, metrics)


def note_end(work: Path) -> None:
    """For the frame: a signal ended the processes, at a checkpoint."""
    (work / SCRATCH / FOLDER / ENDED).touch()


def note_failed() -> None:
    """For the frame, by torchrun: a process has failed or was killed. Slurm then ends the others by SIGTERM."""
    if work := own_work_dir():
        (work / SCRATCH / FOLDER / FAILED).touch()


def rank_of_process() -> int:
    return int(os.environ[RANK])


def note_failure(work: Path, error: Exception, message: str, step: int | None) -> None:
    """For the frame, unless the cause is another process that ended. step: the last one that this process has done."""
    rank, said = rank_of_process(), str(error)
    if isinstance(error, RuntimeError) and any(text in said for text in LOST):
        sys.exit(1)
    if isinstance(error, RuntimeError) and TIMED_OUT in said:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        ours = [frame.f_code for frame in frames if frame.f_globals["__name__"].startswith("groundup.")]
        when = "" if step is None else f", after step {step}"
        message = (
            f"process {rank} waited {float(os.environ[TIMEOUT]):g} s for another one in {ours[-1].co_qualname}{when} "
            f"({said}): it hangs, or is slower than `timeout` in launch.yaml allows"
        )
    note(work, rank, message)


def note(work: Path, rank: int | None, message: str) -> None:
    """Why all processes end; rank: None for what is of no single one."""
    name = "torchrun" if rank is None else rank
    write_json(work / SCRATCH / FOLDER / f"failure-{name}.json", {"rank": rank, "message": message})
