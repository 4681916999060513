"""Win rates at equal length, in cases with a known answer."""

import numpy as np
import pytest

from groundup.core.judging.statistics import wins
from groundup.evaluate.length_control import length_controlled_win_rate

RNG = np.random.default_rng(0)
ONCE = np.ones((1, 4000))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def controlled(won: np.ndarray, lengths: np.ndarray) -> float:
    return float(length_controlled_win_rate(won, lengths, np.ones((1, len(won))))[0])


def test_a_judge_that_only_likes_length_prefers_neither() -> None:
    differences = np.tile([-20.0, -10.0, 10.0, 20.0, 30.0, 40.0], 50)  # the first model writes more
    won = wins(differences, np.zeros(300))
    assert won.mean() == pytest.approx(2 / 3)
    assert controlled(won, differences) == pytest.approx(0.5, abs=0.05)


def test_a_noisy_taste_for_length_is_taken_out() -> None:
    differences = RNG.normal(10, 10, 4000)
    length = np.tanh(differences / np.sqrt(np.mean(differences**2)))
    for rate in (0.0, 1.0, -1.0):
        won = (RNG.random(4000) < sigmoid(rate + 2 * length)).astype(float)
        assert controlled(won, differences) == pytest.approx(sigmoid(np.array(rate)), abs=0.04)


def test_without_a_taste_for_length_it_is_the_win_rate() -> None:
    won = np.array([1.0, 0.0, 1.0, 0.5] * 50)
    differences = np.repeat([-5.0, 5.0], 100)
    assert won.mean() == 0.625
    assert controlled(won, differences) == pytest.approx(0.625, abs=1e-4)


def test_replies_of_one_length_leave_the_win_rate() -> None:
    won = np.array([1.0, 0.0, 1.0, 0.5])
    assert controlled(won, np.zeros(4)) == pytest.approx(0.625, abs=1e-4)
    # Always longer by the same amount: length and merit are not separable, and the rate stays.
    assert controlled(won, np.full(4, 7.0)) == pytest.approx(0.625, abs=0.01)


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (1.0, 1.0), (0.0, 0.0)])
def test_one_comparison_and_one_outcome(value: float, expected: float) -> None:
    for count in (1, 200):
        rate = controlled(np.full(count, value), np.linspace(-3, 5, count))
        assert rate == pytest.approx(expected, abs=0.02)


def test_a_weight_is_a_repetition() -> None:
    won, differences = np.array([1.0, 0.0, 0.5, 1.0, 0.0]), np.array([4.0, -2.0, 1.0, -1.0, 3.0])
    weights = np.array([[1.0, 1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 1.0, 3.0, 1.0]])
    rates = length_controlled_win_rate(won, differences, weights)
    scale = np.sqrt(np.mean(differences**2))
    for weight, rate in zip(weights, rates, strict=True):
        # The gradient of the penalized log-likelihood is zero at the result.
        theta = np.log(rate / (1 - rate))
        length = np.tanh(differences / scale)
        slopes = np.linspace(-10, 10, 200001)
        residual = weight @ (won[:, None] - sigmoid(theta + slopes * length[:, None])) - 1e-4 * theta
        assert np.abs(residual).min() < 1e-3
    assert rates[0] != rates[1]
