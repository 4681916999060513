"""The device that models run on. Decided only here, once per process, and passed to Lightning, TRL and our loops."""

import logging
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from groundup.runner.environment import DEVICE, DEVICES, NO_COMPILATION, VISIBLE_GPUS, main_root
from groundup.runner.files import read_yaml

logger = logging.getLogger(__name__)

LAUNCH_FILE = "launch.yaml"  # beside params.yaml, ignored by git: what belongs to one machine and changes no number
EXAMPLE = "lines such as `device: cuda` and `compile: false`"


def resolve_device(root: Path) -> str:
    """cpu, cuda or mps: what the environment wants, else the launch file of the checkout, else cuda or cpu.

    With cuda the process sees one GPU from now on, and torch.compile is off where it cannot work or is not wanted.
    """
    launch = _read_launch(root)
    wanted, said_by = _wanted(launch)
    if wanted not in ("auto", *DEVICES):
        raise ValueError(f"{said_by}{wanted}: use auto, cpu, cuda or mps")
    device = wanted if wanted == "cpu" else _present(wanted, said_by)
    logger.info("device: %s (%s%s)", device, said_by, wanted)
    if device == "cuda":
        _set_up_compilation(launch.get("compile", True))
    return device


def _read_launch(root: Path) -> dict[str, Any]:
    path = main_root(root) / LAUNCH_FILE
    if not path.is_file():
        return {}
    values = read_yaml(path, f"write {EXAMPLE}, or delete the file")
    if not isinstance(values, dict) or not values or values.keys() - {"device", "compile"}:
        raise ValueError(f"{path} holds {values!r:.80}: write {EXAMPLE}, or delete the file")
    if not isinstance(values.get("compile", True), bool):
        raise ValueError(f"{path}: compile: {values['compile']}: use true or false")
    return values


def _wanted(launch: dict[str, Any]) -> tuple[str, str]:
    """(auto, cpu, cuda, mps or a mistake, who says so)"""
    if DEVICE in os.environ:
        return os.environ[DEVICE], f"{DEVICE}="
    if "device" in launch:
        return str(launch["device"]), f"{LAUNCH_FILE}: device: "
    return "auto", f"{DEVICE} is not set: "


def _present(wanted: str, said_by: str) -> str:
    _show_one_gpu()
    import torch  # 2 s, so only where a device is looked for

    if (num_gpus := torch.cuda.device_count()) > 1:
        raise ValueError(
            f"{num_gpus} GPUs are visible, since CUDA had started before the device was chosen, and a stage trains on "
            f"one: start again with {VISIBLE_GPUS}={os.environ[VISIBLE_GPUS]}"
        )
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return "cuda" if present["cuda"] else "cpu"  # mps is untested, so it must be requested
    if not present[wanted]:
        raise ValueError(f"{said_by}{wanted}, but torch finds no such device here: use cpu or auto")
    return wanted


def _show_one_gpu() -> None:
    """A stage trains on one GPU. Where TRL sees several it refuses, after Lightning has trained for hours on one."""
    visible = os.environ.get(VISIBLE_GPUS)
    first = "0" if visible is None else visible.split(",")[0]
    if visible not in (None, first):
        logger.info("device: of %s=%s the first GPU alone is used", VISIBLE_GPUS, visible)
    os.environ[VISIBLE_GPUS] = first


def _set_up_compilation(wanted: bool) -> None:
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
