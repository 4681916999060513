"""What the machine has, and the rates that nothing can be above."""

import importlib.metadata
import platform
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from bench.gpu.machine import Machine
from bench.gpu.rows import Figure, Figures, Measurement

PACKAGES = ("torch", "triton", "transformers", "lightning", "trl", "peft", "accelerate")


def measurements(machine: Machine) -> Iterator[Measurement]:
    yield Measurement("GPU and driver", "", lambda: gpu(machine))
    yield Measurement("versions", "requirements.lock", versions)
    yield Measurement("what torch.compile needs", "a C compiler and Python.h", compiler)
    for dtype in (torch.bfloat16, torch.float32):
        yield Measurement(
            f"product of {machine.sizes.product} x {machine.sizes.product} matrices, {str(dtype)[6:]}",
            "the data sheet (bf16)",
            partial(product, machine, dtype),
        )
    yield Measurement("copy of memory, read and written", "the data sheet's bandwidth", lambda: copy(machine))


def gpu(machine: Machine) -> Figures:
    if not machine.has_gpu:
        return {"device": f"cpu, {platform.machine()}"}
    found = torch.cuda.get_device_properties(0)
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return {
        "device": found.name,
        "count": torch.cuda.device_count(),
        "GiB": found.total_memory / 2**30,
        "capability": f"{found.major}.{found.minor}",
        "driver": driver[0] if driver else None,
    }


def versions() -> Figures:
    found: dict[str, Figure] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found | {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


def compiler() -> Figures:
    header = Path(sysconfig.get_path("include"), "Python.h")
    return {"compiler": shutil.which("cc") or shutil.which("gcc"), "Python.h": header.is_file()}


def product(machine: Machine, dtype: torch.dtype) -> Figures:
    stated = machine.data_sheet()
    return {
        "TFLOP/s": machine.flops_of_products(dtype) / 1e12,
        "stated for bf16": None if stated is None else stated / 1e12,
    }


def copy(machine: Machine) -> Figures:
    source = torch.empty(2**20 if machine.is_toy else 2**30, device=machine.device)
    target = torch.empty_like(source)
    num_bytes = 2 * source.numel() * source.element_size()
    return {"TB/s": num_bytes / machine.seconds(lambda: target.copy_(source)) / 1e12}
