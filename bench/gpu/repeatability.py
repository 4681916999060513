"""Whether three steps of training give the same bytes a second time, and where they are resumed after the first."""

import io
import warnings
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench.gpu.machine import Machine, kernels
from bench.gpu.pretraining import Step
from bench.gpu.rows import Figures, Measurement

NUM_STEPS = 3


def measurements(machine: Machine) -> Iterator[Measurement]:
    for deterministic, cudnn in (("warn", False), ("warn", True), ("error", False)):
        yield Measurement(
            f"the same bytes, deterministic: {deterministic}, cuDNN {'on' if cudnn else 'off'}",
            "the first run of the same seed",
            partial(repeated, machine, deterministic, cudnn),
        )


def repeated(machine: Machine, deterministic: str, cudnn: bool) -> Figures:
    with warnings.catch_warnings(record=True) as seen, kernels(deterministic, cudnn):
        warnings.simplefilter("always")
        first, second, resumed = (weights(machine, is_resumed) for is_resumed in (False, False, True))
    named = sorted({str(warning.message).split()[0] for warning in seen if "determinis" in str(warning.message)})
    return {
        "again": torch.equal(first, second),
        "resumed": torch.equal(first, resumed),
        "largest difference": float((first - second).abs().max()),
        "warned of": " ".join(named) or None,
    }


def weights(machine: Machine, is_resumed: bool) -> Tensor:
    """After three steps, side by side on the CPU; a resumed run goes on from a saved file in a new model."""
    step, optimizer = start(machine)
    for number in range(NUM_STEPS):
        step()
        optimizer.step()
        optimizer.zero_grad()
        if is_resumed and number == 0:
            file = io.BytesIO()
            torch.save({"model": step.model.state_dict(), "optimizer": optimizer.state_dict()}, file)
            file.seek(0)
            saved = torch.load(file, map_location="cpu", weights_only=True)
            step, optimizer = start(machine)
            step.model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
    return torch.cat([weight.detach().flatten().cpu() for weight in step.model.parameters()])


def start(machine: Machine) -> tuple[Step, torch.optim.Optimizer]:
    step = Step(machine, compiled=False)
    return step, torch.optim.AdamW(step.model.parameters(), lr=1e-4, fused=True)
