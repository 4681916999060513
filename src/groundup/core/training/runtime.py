"""Seeds, threads and precision, set before a stage trains. They change results, so they are not in the runner."""

import ctypes
import hashlib
import logging
import math
import os
import random
import sys
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

from groundup.core.model.kernels import avoid_cudnn_attention
from groundup.core.training.ranks import num_ranks_here, own_rank
from groundup.runner.environment import DETERMINISM
from groundup.runner.params.training import RuntimeParams

logger = logging.getLogger(__name__)

T = TypeVar("T")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LIGHTNING_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed"}


class NonFiniteLossError(ValueError):
    """Training cannot continue; the message names the step."""


def require_finite_gradients(norm: float, stage: str, when: str, rates: str) -> None:
    """Before the optimizer's step. `rates`: the params of the learning rates."""
    if not math.isfinite(norm):
        raise NonFiniteLossError(
            f"{stage}: the norm of the gradients is {norm} at {when}, so training stopped before the weights took "
            f"them. If the loss had risen, lower {rates}; if not, look for non-finite weights in the models it "
            "started from, and in bf16 suspect a kernel, attention above all: try runtime.precision fp32"
        )


class Log(Protocol):
    """Receives the curves of a stage: one call per point, metric names as in docs/metrics.md."""

    def __call__(self, step: int, **values: float) -> None: ...


def set_up(runtime: RuntimeParams, device: str, seed: int) -> torch.device:
    """Fix seeds and threads; returns the device. Called once, at the start of a stage.

    On a CPU, and where DETERMINISM is set, an operation without a deterministic kernel raises an error.
    """
    disable_progress_bar()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    torch.set_num_threads(max(1, runtime.num_threads // num_ranks_here()))  # they share the cores
    torch.use_deterministic_algorithms(device == "cpu" or DETERMINISM.keys() <= os.environ.keys())
    avoid_cudnn_attention()
    # Nothing here reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    keep_few_kernels()
    seed_everything(seed)
    return torch.device(device)


def autocast(runtime: RuntimeParams, device: torch.device) -> torch.autocast:
    """Products in runtime.precision, for passes that no trainer makes: a context, and a decorator of functions."""
    return torch.autocast(device.type, torch.bfloat16, enabled=runtime.precision == "bf16")


def keep_freed_memory() -> None:
    """With glibc, keep the memory that a step frees for the next one.

    By default glibc returns large tensors to the system, which clears their pages when they are allocated again.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, value in ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**30)):
            if libc.mallopt(option, value) != 1:
                logger.warning("mallopt(%d, %d) failed: training is slower without it", option, value)


def release_freed_memory() -> None:
    """Give freed memory back to the system: what follows training allocates other sizes on top of it."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def keep_few_kernels() -> None:
    """Bound what oneDNN keeps of products in bf16 on a CPU: about 1 MB for each shape, and packed rows have many.

    By default PyTorch and oneDNN keep 1024 of them each. A layer with adapters needs about 10 forward and 15 back.
    Both numbers are read at the first product.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "32")


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def seed_step(seed: int, *place: int) -> None:
    """Seed what torch draws at a place of training, by rank: a run resumes exactly without a state to save."""
    digest = hashlib.sha256(str([seed, *place, own_rank()]).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def num_bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def draw(rows: list[T], limit: int | None, seed: int) -> list[T]:
    """At most `limit` rows, in their original order."""
    if limit is None or len(rows) <= limit:
        return rows
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), limit))]


def trl_runtime(runtime: RuntimeParams, device: torch.device) -> dict[str, Any]:
    """Runtime settings of every TRL config; TRL's own defaults are bf16 and activation checkpointing."""
    return {
        "use_cpu": device.type == "cpu",
        "ddp_find_unused_parameters": False,
        "bf16": runtime.precision == "bf16",
        "fp16": False,
        "activation_checkpointing": False,
        "dataloader_pin_memory": device.type == "cuda",
        "dataloader_num_workers": 0,
        "report_to": "none",
        "logging_nan_inf_filter": False,  # the default would replace a NaN loss by the running mean
        "disable_tqdm": True,
        "optim": "adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        "save_strategy": "steps",
        "save_total_limit": None,  # our Checkpoints remove old ones when the next is sealed
    }
