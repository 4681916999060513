"""Length-controlled win rates (Dubois et al. 2024, arXiv:2404.04475): the verdict for replies of equal length."""

from functools import partial

import numpy as np

from groundup.core.judging.statistics import Floats
from groundup.evaluate.intervals import Metrics, rate, weighted_mean, with_judge_interval

# Weights of the squared coefficients. Without them, a judge of length alone gives an infinite slope, and a win
# rate of 0 or 1 an infinite intercept.
LENGTH_PENALTY, RATE_PENALTY = 0.1, 1e-4
MAX_STEPS, TOLERANCE, LARGEST_STEP = 100, 1e-9, 2.0


def length_controlled_win_rate(values: Floats, length_differences: Floats, weights: Floats) -> Floats:
    """[S]: win rate at equal length, for each of S weightings [S, N] of the N comparisons.

    Logistic regression of `values` (1, 0, 0.5 for a tie) on tanh of the difference in units of its root mean
    square.
    """
    scale = np.sqrt(np.mean(np.square(length_differences)))
    length = np.tanh(length_differences / scale) if scale > 0 else np.zeros(len(values))
    rate, slope = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(MAX_STEPS):  # Newton's method on the penalised log-likelihood, which is concave
        expected = 1 / (1 + np.exp(-(rate[:, None] + slope[:, None] * length)))  # [S, N]
        residual = weights * (values - expected)
        variance = weights * expected * (1 - expected)
        down_rate = residual.sum(1) - RATE_PENALTY * rate
        down_slope = residual @ length - LENGTH_PENALTY * slope
        a, b = variance.sum(1) + RATE_PENALTY, variance @ length
        c = variance @ np.square(length) + LENGTH_PENALTY
        determinant = a * c - b * b
        rate_step = np.clip((c * down_rate - b * down_slope) / determinant, -LARGEST_STEP, LARGEST_STEP)
        slope_step = np.clip((a * down_slope - b * down_rate) / determinant, -LARGEST_STEP, LARGEST_STEP)
        rate, slope = rate + rate_step, slope + slope_step
        if max(np.abs(rate_step).max(), np.abs(slope_step).max()) < TOLERANCE:
            break
    return np.asarray(1 / (1 + np.exp(-rate)))


def win_rate_metrics(name: str, outcomes: Floats, length_differences: Floats, weights: Floats) -> Metrics:
    """Win rates, plain and at equal length: outcomes [1 + R, N], differences in tokens [N], weights [S, N]."""
    controlled = partial(length_controlled_win_rate, length_differences=length_differences)
    return {
        **rate(with_judge_interval(name, outcomes, weights, weighted_mean)),
        **rate(with_judge_interval(f"{name}_length_controlled", outcomes, weights, controlled)),
        f"{name}_num_items": outcomes.shape[1],
    }
