"""A step of pretraining at the preset's size, forward and backward: as written, then with one thing changed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from bench.gpu.machine import Machine, kernels
from bench.gpu.rows import Figures, Measurement
from groundup.core.model.forward import RowAttention, hidden_states, take
from groundup.pretrain import cross_entropy


@dataclass(frozen=True)
class Variant:
    name: str
    compared_with: str
    compiled: bool = True  # transformers' layers by torch.compile; else our own forward pass
    deterministic: bool = False
    cudnn: bool = False
    block_tokens: int = cross_entropy.BLOCK_TOKENS


VARIANTS = [
    Variant("as written: compiled, cuDNN off", "the most the device does"),
    Variant("cuDNN's attention on", "as written", cudnn=True),
    Variant("deterministic", "as written", deterministic=True),
    Variant("loss in blocks of 8192", "as written, in blocks of 512", block_tokens=8192),
    Variant("not compiled", "as written", compiled=False),
]


class Step:
    """What PretrainModule.training_step does, without Lightning."""

    def __init__(self, machine: Machine, compiled: bool, seed: int = 0) -> None:
        self.machine = machine
        self.model = machine.model(seed).train()
        self.batch = machine.packed_rows(machine.sizes.num_rows)
        self.layers = torch.compile(self.model.model.forward) if compiled else None

    def __call__(self) -> Tensor:
        ids, positions = self.batch["input_ids"].flatten(), self.batch["position_ids"]
        places = pad(positions[:, 1:] != 0, (0, 1)).flatten().nonzero()[:, 0]
        with self.machine.half():
            if self.layers is None:
                hidden = hidden_states(self.model.model, ids, RowAttention(positions), places)
            else:
                hidden = take(self.layers(**self.batch, use_cache=False).last_hidden_state.flatten(0, 1), places)
            loss = cross_entropy.linear_cross_entropy(hidden, self.model.lm_head.weight, ids[places + 1])
        if not bool(loss.isfinite()):
            raise ValueError(f"the loss is {loss.item()}")
        loss.backward()
        return loss

    def flops(self) -> float:
        """6 a weight and token, and attention as if every token saw the whole context."""
        config = self.model.config
        num_weights = sum(weight.numel() for weight in self.model.parameters())
        attention = 12 * config.num_hidden_layers * config.hidden_size * config.max_position_embeddings
        return float(self.batch["input_ids"].numel() * (6 * num_weights + attention))


def measurements(machine: Machine) -> Iterator[Measurement]:
    for variant in VARIANTS:
        yield Measurement(variant.name, variant.compared_with, partial(measured, machine, variant))
    if machine.has_gpu:
        yield Measurement("the five kernels that take longest, not compiled", "all kernels", lambda: longest(machine))
        for vocab_size in (32768, 131072):
            yield Measurement(
                f"output head and loss, vocabulary of {vocab_size}",
                "the other vocabulary",
                partial(head, machine, vocab_size),
            )


def measured(machine: Machine, variant: Variant) -> Figures:
    block_tokens = cross_entropy.BLOCK_TOKENS
    torch._dynamo.reset()
    with kernels(deterministic=variant.deterministic, cudnn=variant.cudnn):
        cross_entropy.BLOCK_TOKENS = variant.block_tokens
        try:
            step = Step(machine, variant.compiled and machine.has_gpu)
            start = time.perf_counter()
            step()
            machine.wait()
            first = time.perf_counter() - start
            seconds = machine.seconds(step)
        finally:
            cross_entropy.BLOCK_TOKENS = block_tokens
    tokens = step.batch["input_ids"].numel()
    figures = {"ms": 1e3 * seconds, "tokens/s": tokens / seconds, "seconds of the first step": first}
    return figures | machine.utilisation(step.flops() / seconds) | machine.peak_memory()


def longest(machine: Machine) -> Figures:
    with kernels():
        step = Step(machine, compiled=False)
        step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            step()
            machine.wait()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    figures = {"ms of all": sum(event.self_device_time_total for event in events) / 1e3}
    return figures | {f"ms of {event.key[:40]}": event.self_device_time_total / 1e3 for event in events[:5]}


def head(machine: Machine, vocab_size: int) -> Figures:
    tokens, width = machine.sizes.num_rows * machine.sizes.context_length, machine.sizes.hidden_size
    hidden = torch.randn(tokens, width, device=machine.device, requires_grad=True)
    weight = torch.randn(vocab_size, width, device=machine.device, requires_grad=True)
    labels = torch.randint(vocab_size, (tokens,), device=machine.device)

    def work() -> None:
        with machine.half():
            cross_entropy.linear_cross_entropy(hidden, weight, labels).backward()

    with kernels():
        return {"ms": 1e3 * machine.seconds(work, 1, 3)} | machine.peak_memory()
