"""Whether three steps of training give the same bytes a second time, and where they are resumed after the first."""

import io
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench.gpu.machine import PAD, Machine, kernels
from bench.gpu.pretraining import Step
from bench.gpu.rollouts import NO_TOKEN
from bench.gpu.rows import Figures, Measurement
from groundup.core.model.generation import Sampler

NUM_STEPS = 3


def measurements(machine: Machine) -> Iterator[Measurement]:
    for deterministic in (True, False):
        yield Measurement(
            f"the same bytes, deterministic: {str(deterministic).lower()}",
            "the first run of the same seed",
            partial(repeated, machine, deterministic),
        )
    yield Measurement(
        "the same replies, deterministic: true", "the first ones of the same seed", lambda: said(machine)
    )


def repeated(machine: Machine, deterministic: bool) -> Figures:
    with kernels(deterministic=deterministic):
        first, second, resumed = (weights(machine, is_resumed) for is_resumed in (False, False, True))
    return {
        "again": torch.equal(first, second),
        "resumed": torch.equal(first, resumed),
        "largest difference": float((first - second).abs().max()),
    }


def said(machine: Machine) -> Figures:
    """The rest of the row is whether torch's floating sums would have drawn the same tokens."""
    model, num = machine.model(), machine.sizes.num_chats
    sampler = Sampler(NO_TOKEN, PAD, machine.sizes.new_tokens, temperature=1.0, batch_size=num)

    def replies() -> list[list[int]]:
        return sampler.sample(model, machine.chats(num, machine.sizes.prompt_tokens, seed=1), seed=1).tokens

    with kernels(deterministic=True):
        first, second = replies(), replies()
    with kernels():
        return {"again": first == second, "as without": first == replies()}


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
