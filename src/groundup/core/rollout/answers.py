"""A model's answers to prompts, for reward shaping, alarms and reports; independent of the training method."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """One reply per prompt, in the order of the prompts."""

    tokens: list[list[int]]  # without the prompt; ends with end-of-turn if the reply ended
    ended: list[bool]
    scores: Tensor  # [B] of the reward model, less the mean of the same reply after other prompts
    scores_std: Tensor  # [B] its uncertainty, zero without a variational head
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
    """Share of a reply's token trigrams that occurred earlier in it: 0 without repetition, near 1 in a loop.

    Trigrams, because bigrams repeat in ordinary sentences, and longer repeated runs are rare in a short reply.
    """
    pairs = list(pairwise(tokens))
    trigrams = list(pairwise(pairs))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
