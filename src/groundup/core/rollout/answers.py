"""What one model answered to some prompts, whatever method trains it: what shaping, alarms and the reports look at."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """One reply a prompt, in the order of the prompts."""

    tokens: list[list[int]]  # without the prompt; the last one is end-of-turn if the reply ended
    ended: list[bool]
    scores: Tensor  # [B] of the reward model
    scores_std: Tensor  # [B] its uncertainty, zero where it has none
    kl: Tensor  # [B] to the SFT model, nats of the whole reply

    @property
    def lengths(self) -> Tensor:
        """[B]"""
        return torch.tensor([float(len(reply)) for reply in self.tokens])

    @property
    def repetition(self) -> Tensor:
        """[B]"""
        return torch.tensor([repeated_share(reply) for reply in self.tokens])


def repeated_share(tokens: list[int]) -> float:
    """Share of a reply's token trigrams that stood in it before: 0 without repetition, near 1 in a loop.

    Trigrams: a pair of tokens comes back in ordinary sentences, a longer run escapes notice in a short reply.
    """
    pairs = list(pairwise(tokens))
    trigrams = list(pairwise(pairs))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
