"""The device that models run on. Decided only here, once per process, and passed to Lightning, TRL and our loops."""

import logging
import os
import shutil
import sysconfig
from pathlib import Path

from groundup.runner.environment import DETERMINISM, NO_COMPILATION, VISIBLE_GPUS
from groundup.runner.launch.settings import Launch

logger = logging.getLogger(__name__)


def resolve_device(launch: Launch, num_gpus: int = 1) -> str:
    """cpu, cuda or mps: what is wanted and here, or, for auto, cuda or cpu.

    With cuda the process sees no more than num_gpus from now on, torch.compile is off where it cannot work or is not
    wanted, and kernels are deterministic where they are to be.
    """
    device = "cpu" if launch.device == "cpu" else _present(launch, num_gpus)
    logger.info("device: %s (%s%s)", device, launch.device_said_by, launch.device)
    if device == "cuda":
        set_up_compilation(wanted=launch.compile)
        os.environ |= DETERMINISM if launch.deterministic else {}
    return device


def stage_device(launch: Launch) -> str:
    """The device of a stage's processes. Whether a node of a cluster has it shows there."""
    return resolve_device(launch, launch.processes) if launch.launcher == "local" else launch.device


def _present(launch: Launch, num_gpus: int) -> str:
    wanted, said_by = launch.device, launch.device_said_by
    _show_gpus(num_gpus)
    import torch  # 2 s, so only where a device is looked for

    if (visible := torch.cuda.device_count()) > num_gpus:
        raise ValueError(
            f"{visible} GPUs are visible, since CUDA had started before the device was chosen, and a process has "
            f"one: start again with {VISIBLE_GPUS}={os.environ[VISIBLE_GPUS]}"
        )
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = "cuda" if present["cuda"] else "cpu"  # mps is untested, so it must be requested
    elif not present[wanted]:
        raise ValueError(f"{said_by}{wanted}, but torch finds no such device here: use cpu or auto")
    if wanted == "cuda" and visible < num_gpus:
        raise ValueError(f"processes: {num_gpus}, each with a GPU, but torch finds {visible}: lower it")
    return wanted


def _show_gpus(number: int) -> None:
    """The first ones. Where TRL sees several in one process it refuses, after Lightning has trained for hours."""
    visible = os.environ.get(VISIBLE_GPUS)
    first = ",".join(map(str, range(number)) if visible is None else visible.split(",")[:number])
    if visible not in (None, first):
        logger.info("device: of %s=%s only %s is used", VISIBLE_GPUS, visible, first)
    os.environ[VISIBLE_GPUS] = first


def show_own_gpu(index: int) -> None:
    """Of those that the stage uses, to one of its processes."""
    visible = os.environ.get(VISIBLE_GPUS)
    os.environ[VISIBLE_GPUS] = str(index) if visible is None else visible.split(",")[index]


def set_up_compilation(*, wanted: bool) -> None:
    missing = [] if shutil.which("cc") else ["a C compiler"]
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("Python.h")
    if wanted and missing:
        logger.warning(
            "device: %s missing, which kernels for a GPU are built with: nothing is compiled, and trainers of TRL may "
            "fail; install them, on Debian and Ubuntu as `apt install gcc python3-dev`",
            " and ".join(missing),
        )
    if missing or not wanted:
        os.environ[NO_COMPILATION] = "1"
