"""Scores of the reward model."""

from collections.abc import Iterator
from functools import partial

from bench.gpu.machine import Machine, kernels
from bench.gpu.rows import Figures, Measurement
from groundup.core.model.scoring import RewardScorer


def measurements(machine: Machine) -> Iterator[Measurement]:
    for half in (True, False):
        yield Measurement(
            f"scores of {machine.sizes.num_chats} chats, {'bf16' if half else 'fp32'}",
            "the other precision",
            partial(scored, machine, half),
        )


def scored(machine: Machine, half: bool) -> Figures:
    sizes = machine.sizes
    scorer = RewardScorer(machine.reward_model())
    chats = machine.chats(sizes.num_chats, sizes.prompt_tokens + sizes.new_tokens, seed=0)
    with kernels(), machine.half(half):
        seconds = machine.seconds(lambda: scorer.score(chats), 1, 3)
    return {"chats/s": len(chats) / seconds, "tokens/s": sum(map(len, chats)) / seconds} | machine.peak_memory()
