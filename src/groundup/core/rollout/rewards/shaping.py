"""The reward that training maximizes, as the sum of its terms, without the KL penalty."""

from collections.abc import Sequence

import torch
from torch import Tensor

from groundup.core.rollout.answers import Answers
from groundup.core.rollout.rewards.terms import TERMS
from groundup.runner.params.rewards import RewardTerm


def shaped_rewards(answers: Answers, reference_length: float, terms: Sequence[RewardTerm]) -> Tensor:
    """[B]: the weighted sum of the terms. `reference_length` is the mean reply length of the SFT model."""
    rewards = torch.zeros(len(answers.tokens))
    for term in terms:
        rewards = rewards + term.weight * TERMS[term.kind](answers, reference_length, term)
    return rewards
