"""The control of the training: the same method, with each reward given to any reply of its batch."""

import zlib

import torch
from torch import Tensor

from groundup.align.rollout import RolloutWorker
from groundup.core.rollout.answers import Answers


class ShuffledRewards(RolloutWorker):
    """Rewards that say nothing about the replies: what a policy gains from them is no effect of the reward model."""

    def rewards(self, answers: Answers, reference_length: float) -> Tensor:
        """[B], in an order that depends on the replies alone: an iteration, and a resumed one, asks more than once."""
        generator = torch.Generator().manual_seed(zlib.crc32(repr(answers.tokens).encode()))
        return super().rewards(answers, reference_length)[torch.randperm(len(answers.tokens), generator=generator)]
