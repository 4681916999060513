"""Estimates with 95 % intervals over prompts and, if there are several judges, over judges."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from groundup.core.judging.judge import judge_error
from groundup.core.judging.statistics import NORMAL_QUANTILE, Floats, cluster_bootstrap, resampled_weights
from groundup.runner.params.evaluate import EvaluateParams

Metrics = dict[str, float]


class Estimate(Protocol):
    """[S] from values [N] and weights [S, N]."""

    def __call__(self, values: Floats, *, weights: Floats) -> Floats: ...


def with_interval(
    name: str, values: Sequence[float], groups: Sequence[str], params: EvaluateParams
) -> dict[str, float]:
    """The mean with its 95 % interval over groups."""
    low, high = cluster_bootstrap(values, [[group] for group in groups], params.bootstrap_samples, params.seed)
    return {name: sum(values) / len(values), f"{name}_ci_low": low, f"{name}_ci_high": high}


def resamples(groups: Sequence[str], num_samples: int, seed: int) -> Floats:
    """[S, N]: how often each value counts when the groups are drawn with replacement."""
    return np.array(list(resampled_weights([[group] for group in groups], num_samples, seed)), dtype=np.float64)


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """[S] from [N] and [S, N]."""
    return np.asarray(weights @ values / weights.sum(1))


def rate(metrics: Metrics) -> Metrics:
    """Clip to [0, 1], which the sum of two intervals may leave."""
    return {name: min(1.0, max(0.0, value)) for name, value in metrics.items()}


def with_judge_interval(name: str, values: Floats, weights: Floats, estimate: Estimate) -> Metrics:
    """The estimate by the judge of all rows, with its 95 % interval.

    values: [1 + R, N], a row per judge; a single row ignores the uncertainty of the judge. weights: [S, N].
    """
    plain = np.ones((1, values.shape[1]))
    estimates = np.array([estimate(row, weights=plain)[0] for row in values])
    low, high = joint_interval(estimates[0], estimate(values[0], weights=weights), estimates[1:])
    return {name: float(estimates[0]), f"{name}_ci_low": low, f"{name}_ci_high": high}


def joint_interval(value: float, on_resamples: Floats, by_judges: Floats) -> tuple[float, float]:
    """95 % interval from the estimates on resampled prompts and, if any, by resampled judges.

    The errors of prompts and judge are independent, so they add in squares.
    """
    low, high = np.quantile(on_resamples, [0.025, 0.975])
    error = NORMAL_QUANTILE * judge_error(by_judges) if len(by_judges) else 0.0
    return float(value - np.hypot(value - low, error)), float(value + np.hypot(high - value, error))


def relative_change(name: str, before: Floats, after: Floats, weights: tuple[Floats, Floats]) -> Metrics:
    """How far the mean of `after` is above that of `before`, as a share of it; weights [S, N] of either."""
    drawn = weighted_mean(after, weights[1]) / weighted_mean(before, weights[0]) - 1
    value = float(after.mean() / before.mean() - 1)
    low, high = joint_interval(value, drawn, np.empty(0))
    return {name: value, f"{name}_ci_low": low, f"{name}_ci_high": high}


def paired_score_interval(changes: Sequence[float], largest: float) -> tuple[float, float]:
    """95 % interval of the mean change of items by Tango's score test (1998, Statistics in Medicine 17:891-908).

    Not empty where nothing changed: 0 of n give +-z^2 / (n + z^2). The test knows changes of -largest, 0 and largest.
    A smaller one, of an item with several replies, counts as `largest` in that share of cases: its mean stays and its
    variance grows, so the interval is too wide rather than too narrow, and more replies do not stand in for items.
    """
    num_items = len(changes)
    up = sum(change for change in changes if change > 0) / largest
    down = -sum(change for change in changes if change < 0) / largest

    def z(change: float) -> float:
        """Standard score of what was found, were `change` the true one."""
        linear = (2 * num_items - up + down) * change - up - down
        root = math.sqrt(max(0.0, linear**2 + 8 * num_items * down * change * (1 - change)))
        variance = num_items * ((root - linear) / (2 * num_items) + change * (1 - change))
        distance = up - down - num_items * change
        if distance == 0:
            return 0.0
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    def end(wanted: float) -> float:
        low, high = -1.0, 1.0
        while high - low > 1e-9:  # z falls from one end to the other
            middle = (low + high) / 2
            low, high = (middle, high) if z(middle) > wanted else (low, middle)
        return largest * (low + high) / 2

    return end(NORMAL_QUANTILE), end(-NORMAL_QUANTILE)
