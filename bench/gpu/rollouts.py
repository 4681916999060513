"""Tokens a second of the project's sampler, and of transformers' generate."""

from collections.abc import Iterator
from functools import partial
from itertools import count

import torch

from bench.gpu.machine import BOS, PAD, Machine, kernels
from bench.gpu.rows import Figures, Measurement
from groundup.core.model.generation import Sampler

NO_TOKEN = -1  # as end-of-turn: no reply ends early


def measurements(machine: Machine) -> Iterator[Measurement]:
    most = machine.sizes.num_chats
    compared = "transformers' generate"
    yield Measurement(f"{most} replies, bf16", compared, lambda: sampled(machine, most, True, False))
    yield Measurement(f"{most} replies, bf16, cuDNN on", "cuDNN off", lambda: sampled(machine, most, True, True))
    yield Measurement(f"{most} replies, fp32", "bf16", lambda: sampled(machine, most, False, False))
    for num in (16, 1):
        yield Measurement(f"{num} replies, bf16", f"{most} replies", partial(sampled, machine, num, True, False))
    yield Measurement(f"{most} replies by transformers' generate, bf16", "ours", lambda: generated(machine, most))


def figures(machine: Machine, num: int, seconds: float) -> Figures:
    new = machine.sizes.new_tokens
    return {"tokens/s": num * new / seconds, "ms a step": 1e3 * seconds / new} | machine.peak_memory()


def sampled(machine: Machine, num: int, half: bool, cudnn: bool) -> Figures:
    model, seeds = machine.model(), count()
    sampler = Sampler(NO_TOKEN, PAD, machine.sizes.new_tokens, temperature=1.0, batch_size=num)

    def work() -> None:
        seed = next(seeds)  # new lengths each time, as in training
        sampler.sample(model, machine.chats(num, machine.sizes.prompt_tokens, seed), seed)

    with kernels(cudnn=cudnn), machine.half(half):
        return figures(machine, num, machine.seconds(work, 1, 2))


def generated(machine: Machine, num: int) -> Figures:
    model, new = machine.model(), machine.sizes.new_tokens
    ids = torch.full((num, machine.sizes.prompt_tokens), BOS, device=machine.device)

    def work() -> None:
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=True,
            top_k=0,
            use_cache=True,
        )

    with kernels(), machine.half():
        return figures(machine, num, machine.seconds(work, 1, 2))
