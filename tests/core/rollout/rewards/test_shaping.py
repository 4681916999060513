"""What a score is worth after pessimism and penalties."""

from typing import Any

import pytest
import torch

from groundup.core.rollout.answers import Answers, repeated_share
from groundup.core.rollout.rewards.shaping import shaped_rewards
from tests.align.conftest import align_params

ANSWERS = Answers(
    tokens=[[5, 6, 1], [5, 6, 7, 8, 9, 1], [5, 6, 7, 5, 6, 7, 5, 6]],
    ended=[True, True, False],
    scores=torch.tensor([1.0, 2.0, 3.0]),
    scores_std=torch.tensor([0.5, 0.0, 2.0]),
    kl=torch.zeros(3),
)
NOTHING = {"pessimism": 0.0, "length_penalty": 0.0, "repetition_penalty": 0.0, "missing_eos_penalty": 0.0}


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ({}, [1.0, 2.0, 3.0]),
        ({"pessimism": 1.0}, [0.5, 2.0, 1.0]),
        ({"length_penalty": 0.1}, [1.0, 1.8, 2.6]),  # 2 and 4 tokens above the reference's 4; shorter is no better
        ({"repetition_penalty": 2.0}, [1.0, 2.0, 2.0]),  # 3 of the last one's 6 trigrams stood there before
        ({"missing_eos_penalty": 0.3}, [1.0, 2.0, 2.7]),
        (
            {"pessimism": 1.0, "length_penalty": 0.1, "repetition_penalty": 2.0, "missing_eos_penalty": 0.3},
            [0.5, 1.8, -0.7],
        ),
    ],
)
def test_each_term_by_hand(term: dict[str, Any], expected: list[float]) -> None:
    rewards = shaped_rewards(ANSWERS, reference_length=4.0, params=align_params(**NOTHING | term))
    assert rewards.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tokens", "share"),
    [
        ([], 0.0),
        ([5, 6], 0.0),
        ([5, 6, 7, 8], 0.0),
        ([5, 6, 5, 6, 7], 0.0),  # a pair alone is no repetition
        ([5, 6, 7, 5, 6, 7], 0.25),
        ([5] * 12, 0.9),
    ],
)
def test_repeated_share(tokens: list[int], share: float) -> None:
    assert repeated_share(tokens) == pytest.approx(share)
