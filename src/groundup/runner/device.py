"""The device that models run on. Decided only here, once per process, and passed to Lightning, TRL and our loops."""

import logging
import os
from pathlib import Path

from groundup.runner.environment import DEVICE, DEVICES, main_root
from groundup.runner.files import read_yaml

logger = logging.getLogger(__name__)

LAUNCH_FILE = "launch.yaml"  # beside params.yaml, ignored by git: what belongs to one machine and changes no number
EXAMPLE = "one line, such as `device: cpu`"


def resolve_device(root: Path) -> str:
    """cpu, cuda or mps: from the environment, else from the checkout's launch file, else cuda if present, else cpu."""
    wanted, said_by = _wanted(root)
    if wanted not in ("auto", *DEVICES):
        raise ValueError(f"{said_by}{wanted}: use auto, cpu, cuda or mps")
    device = wanted if wanted == "cpu" else _present(wanted, said_by)
    logger.info("device: %s (%s%s)", device, said_by, wanted)
    return device


def _wanted(root: Path) -> tuple[str, str]:
    """(the requested device, not validated; where the request comes from)"""
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
    import torch  # takes 2 s, so it is imported only where needed

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return "cuda" if present["cuda"] else "cpu"  # mps is untested, so it must be requested
    if not present[wanted]:
        raise ValueError(f"{said_by}{wanted}, but torch finds no such device here: use cpu or auto")
    return wanted
