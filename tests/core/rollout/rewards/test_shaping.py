"""Rewards after pessimism and penalties."""

from typing import get_args

import pytest
import torch

from groundup.core.rollout.answers import Answers, repeated_share
from groundup.core.rollout.rewards.shaping import shaped_rewards
from groundup.core.rollout.rewards.terms import TERMS
from groundup.runner.params.rewards import PenaltyTerm, RewardTerm, ScoreTerm

ANSWERS = Answers(
    tokens=[[5, 6, 1], [5, 6, 7, 8, 9, 1], [5, 6, 7, 5, 6, 7, 5, 6]],
    ended=[True, True, False],
    scores=torch.tensor([1.0, 2.0, 3.0]),
    scores_std=torch.tensor([0.5, 0.0, 2.0]),
    kl=torch.zeros(3),
)
SCORE = ScoreTerm(kind="reward_model", weight=1.0, pessimism=0.0)
PESSIMISTIC = ScoreTerm(kind="reward_model", weight=0.5, pessimism=1.0)
LENGTH = PenaltyTerm(kind="length", weight=0.1)
REPETITION = PenaltyTerm(kind="repetition", weight=2.0)
MISSING_END = PenaltyTerm(kind="missing_end_of_turn", weight=0.3)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([SCORE], [1.0, 2.0, 3.0]),
        ([PESSIMISTIC], [0.25, 1.0, 0.5]),
        ([SCORE, LENGTH], [1.0, 1.8, 2.6]),  # 2 and 4 tokens above the reference's 4; a shorter reply has no advantage
        ([SCORE, REPETITION], [1.0, 2.0, 2.0]),  # 3 of the last reply's 6 trigrams occurred earlier in it
        ([MISSING_END, SCORE], [1.0, 2.0, 2.7]),
        ([MISSING_END], [0.0, 0.0, -0.3]),  # the reward model may be left out
        ([PESSIMISTIC, LENGTH, REPETITION, MISSING_END], [0.25, 0.8, -1.2]),
    ],
)
def test_each_term_by_hand(terms: list[RewardTerm], expected: list[float]) -> None:
    assert shaped_rewards(ANSWERS, reference_length=4.0, terms=terms).tolist() == pytest.approx(expected)


def test_every_kind_of_the_schema_has_a_term() -> None:
    kinds = [
        kind for section in (ScoreTerm, PenaltyTerm) for kind in get_args(section.model_fields["kind"].annotation)
    ]
    assert sorted(TERMS) == sorted(kinds)


@pytest.mark.parametrize(
    ("tokens", "share"),
    [
        ([], 0.0),
        ([5, 6], 0.0),
        ([5, 6, 7, 8], 0.0),
        ([5, 6, 5, 6, 7], 0.0),  # a repeated pair alone is no repetition
        ([5, 6, 7, 5, 6, 7], 0.25),
        ([5] * 12, 0.9),
    ],
)
def test_repeated_share(tokens: list[int], share: float) -> None:
    assert repeated_share(tokens) == pytest.approx(share)
