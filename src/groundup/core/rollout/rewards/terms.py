"""The terms of a reward, [B] each. TERMS is the only list of their kinds; a penalty is negative, its weight is not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from groundup.core.rollout.answers import Answers
from groundup.runner.params.rewards import PenaltyTerm, ScoreTerm


def score(answers: Answers, reference_length: float, term: ScoreTerm) -> Tensor:
    """A lower bound on the score. Where the reward model knows little, a policy finds its errors first."""
    return answers.scores - term.pessimism * answers.scores_std


def length(answers: Answers, reference_length: float, term: PenaltyTerm) -> Tensor:
    """Tokens above the mean reply length of the SFT model."""
    return -(answers.lengths - reference_length).clamp(min=0)


def repetition(answers: Answers, reference_length: float, term: PenaltyTerm) -> Tensor:
    return -answers.repetition


def missing_end_of_turn(answers: Answers, reference_length: float, term: PenaltyTerm) -> Tensor:
    return -(~torch.tensor(answers.ended)).float()


TERMS: dict[str, Callable[[Answers, float, Any], Tensor]] = {
    "reward_model": score,
    "length": length,
    "repetition": repetition,
    "missing_end_of_turn": missing_end_of_turn,
}
