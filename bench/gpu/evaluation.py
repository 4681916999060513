"""Likelihoods as evaluate computes them, in fp32."""

from collections.abc import Iterator

from bench.gpu.machine import Machine, kernels
from bench.gpu.rows import Figures, Measurement
from groundup.core.model.branches import Branches
from groundup.core.model.likelihood import Stretch, own_distribution, stretch_nats
from groundup.evaluate.reply_likelihood import branch_scores, num_inputs

NUM_CHOICES = 4


def measurements(machine: Machine) -> Iterator[Measurement]:
    yield Measurement("likelihood of documents", "a training step's tokens/s", lambda: documents(machine))
    yield Measurement(f"likelihood of {NUM_CHOICES} replies each", "documents", lambda: choices(machine))


def documents(machine: Machine) -> Figures:
    model, sizes = machine.model(), machine.sizes
    texts = machine.chats(2 * sizes.num_scored, sizes.context_length, seed=0)
    stretches = [Stretch(ids, len(ids) - 1) for ids in texts]
    with kernels():
        seconds = machine.seconds(lambda: stretch_nats(model, stretches, sizes.num_scored, own_distribution), 1, 2)
    return {"tokens/s": sum(map(len, texts)) / seconds} | machine.peak_memory()


def choices(machine: Machine) -> Figures:
    model, sizes = machine.model(), machine.sizes
    items = [
        Branches(prompt, machine.chats(NUM_CHOICES, 6, seed=number))
        for number, prompt in enumerate(machine.chats(2 * sizes.num_scored, sizes.prompt_tokens, seed=0))
    ]
    with kernels():
        seconds = machine.seconds(lambda: branch_scores(model, items, sizes.num_scored), 1, 2)
    return {"tokens/s": sum(num_inputs(item) for item in items) / seconds} | machine.peak_memory()
