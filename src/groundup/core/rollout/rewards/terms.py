"""The terms of a reward, [B] each. TERMS is the only list of kinds; penalties are negative, weights are not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from groundup.core.rollout.answers import Answers
from groundup.runner.params.rewards import PenaltyTerm, ScoreTerm


def score(answers: Answers, reference_length: float, term: ScoreTerm) -> Tensor:
    """A lower bound on the score, because a policy exploits the errors of an uncertain reward model first."""
    return answers.scores - term.pessimism * answers.scores_std


def length(answers: Answers, reference_length: float, term: PenaltyTerm) -> Tensor:
    """Negative number of tokens above the mean reply length of the SFT model."""
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
