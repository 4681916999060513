"""Steps of the server's batch, in fp32, by the number of replies that share them."""

from collections.abc import Iterator
from functools import partial

import torch

from bench.gpu.machine import Machine, kernels
from bench.gpu.rows import Figures, Measurement
from groundup.app.serve.batch import Batch, Generation
from groundup.app.serve.plan import sampling

NUM_STEPS = 8
NO_TOKEN = -1  # as end-of-turn: no reply ends


def measurements(machine: Machine) -> Iterator[Measurement]:
    for num in (1, 16, 64):
        yield Measurement(f"{num} replies a step", "other numbers of replies", partial(steps, machine, num))


def steps(machine: Machine, num: int) -> Figures:
    settings = sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
    most = machine.sizes.context_length // 2
    batch = Batch(machine.model(), NO_TOKEN, num)
    generator = torch.Generator().manual_seed(0)
    with kernels():
        generations = [
            Generation(tuple(chat), settings, most, 0, torch.rand(most, generator=generator, dtype=torch.float64))
            for chat in machine.chats(num, machine.sizes.prompt_tokens, seed=0)
        ]
        list(batch.step(generations))
        seconds = machine.seconds(lambda: list(batch.step([])), 2, NUM_STEPS)
    return {"ms a step": 1e3 * seconds, "tokens/s": num / seconds} | machine.peak_memory()
