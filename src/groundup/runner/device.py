"""Which device models run on. Decided here alone, once a process; Lightning, TRL and our own loops are told."""

import logging
import os
from pathlib import Path

from groundup.runner.environment import DEVICE, DEVICES, main_root
from groundup.runner.files import read_yaml

logger = logging.getLogger(__name__)

LAUNCH_FILE = "launch.yaml"  # beside params.yaml, ignored by git: what belongs to one machine and changes no number
EXAMPLE = "one line, such as `device: cpu`"


def resolve_device(root: Path) -> str:
    """cpu, cuda or mps: what the environment wants, else the launch file of the checkout, else cuda or cpu."""
    wanted, said_by = _wanted(root)
    if wanted not in ("auto", *DEVICES):
        raise ValueError(f"{said_by}{wanted}: use auto, cpu, cuda or mps")
    device = wanted if wanted == "cpu" else _present(wanted, said_by)
    logger.info("device: %s (%s%s)", device, said_by, wanted)
    return device


def check_one_gpu(device: str) -> None:
    """ValueError if a stage sees several GPUs, before hours go into a stage whose successor would refuse them."""
    if device != "cuda":
        return
    import torch

    if (count := torch.cuda.device_count()) > 1:
        raise ValueError(
            f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')} shows {count} GPUs, and a stage trains on "
            "one: set it to one of them, such as CUDA_VISIBLE_DEVICES=0"
        )


def _wanted(root: Path) -> tuple[str, str]:
    """(auto, cpu, cuda, mps or a mistake, who says so)"""
    if DEVICE in os.environ:
        return os.environ[DEVICE], f"{DEVICE}="
    path = main_root(root) / LAUNCH_FILE
    if not path.is_file():
        return "auto", f"{DEVICE} is not set: "
    values = read_yaml(path, f"write {EXAMPLE}, or delete the file")
    if not isinstance(values, dict) or values.keys() != {"device"}:
        raise ValueError(f"{path} holds {values!r:.80}: write {EXAMPLE}, or delete the file")
    return str(values["device"]), f"{path.name}: device: "


def _present(wanted: str, said_by: str) -> str:
    import torch  # 2 s, so only where a device is looked for

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return "cuda" if present["cuda"] else "cpu"  # mps, where nothing has been tried, must be asked for
    if not present[wanted]:
        raise ValueError(f"{said_by}{wanted}, but torch finds no such device here: use cpu or auto")
    return wanted
