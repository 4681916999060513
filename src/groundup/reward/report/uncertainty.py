"""Whether a reward model's uncertainty identifies its errors, and chats unlike the training chats.

Pure functions of scores. Intervals are 95 %, resampled over conversations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.core.judging.statistics import (
    Floats,
    percentile_interval,
    resampled_weights,
    spearman,
    spearman_interval,
)
from groundup.reward.report.figures import Figures, bounded, ends, finite
from groundup.runner.params.training import RewardParams

Clusters = Sequence[Sequence[str]]
COVERAGES = (1.0, 0.8, 0.6, 0.4, 0.2)


@dataclass(frozen=True)
class ScoredChats:
    """Standard deviations of the scores of chats [N], and the conversations that each chat comes from."""

    std: Floats
    conversations: Clusters


def risk_coverage(errors: Floats, weights: Floats) -> Floats:
    """Mean error of the first 1, 2, ... N pairs, given in descending order of confidence: [N].

    A pair counts weights[i] times; the error is 0 before the first pair with a weight.
    """
    kept = np.cumsum(weights)
    return np.cumsum(weights * errors) / np.maximum(kept, 1)


def risk_area(errors: Floats, weights: Floats) -> float:
    """Area under the risk-coverage curve (Geifman and El-Yaniv 2017): the mean of its values."""
    return float(risk_coverage(errors, weights) @ weights / weights.sum())


@dataclass(frozen=True)
class PairErrors:
    """The model's errors on N pairs, and two orders of descending confidence."""

    errors: Floats  # [N] 1 for a wrong order, a half for a tie
    std: Floats  # [N] of the difference
    by_ratio: NDArray[np.int64]  # [N] by |difference of means| / std
    by_difference: NDArray[np.int64]  # [N] by |difference of means| alone

    @classmethod
    def of(cls, means: Floats, stds: Floats) -> "PairErrors":
        """From scores of the chosen and the rejected side, [N, 2]."""
        difference = means[:, 0] - means[:, 1]
        std = np.hypot(stds[:, 0], stds[:, 1])
        errors = np.where(difference == 0, 0.5, (difference < 0).astype(np.float64))
        by_ratio, by_difference = (
            np.argsort(-x, kind="stable") for x in (np.abs(difference) / std, np.abs(difference))
        )
        return cls(errors, std, by_ratio, by_difference)

    def at_coverages(self) -> dict[float, tuple[float, float]]:
        """Share of pairs kept -> error among them, by ratio and by difference."""
        ones = np.ones_like(self.errors)
        curves = [risk_coverage(self.errors[order], ones) for order in (self.by_ratio, self.by_difference)]
        last = {share: max(1, round(share * len(ones))) - 1 for share in COVERAGES}
        return {share: (float(curves[0][i]), float(curves[1][i])) for share, i in last.items()}


def pair_figures(pairs: PairErrors, conversations: Clusters, params: RewardParams) -> Figures:
    """Whether the model makes fewer errors on pairs of which it is more certain."""
    errors, ones = pairs.errors, np.ones_like(pairs.errors)

    def areas(weights: Floats) -> Floats:
        """Areas for the order by ratio, by difference, and without order: [3]."""
        orders = (pairs.by_ratio, pairs.by_difference)
        sorted_areas = [risk_area(errors[order], weights[order]) for order in orders]
        return np.array([*sorted_areas, errors @ weights / weights.sum()])

    drawn = np.array(
        [
            areas(weights.astype(np.float64))
            for weights in resampled_weights(conversations, params.bootstrap_samples, params.seed)
            if weights.any()
        ]
    )
    area, by_difference, random = areas(ones)
    figures = {
        "uncertainty_risk_area": area,
        "uncertainty_risk_area_difference_only": by_difference,
        "uncertainty_risk_area_random": random,
        "uncertainty_gain_over_difference": by_difference - area,
        "uncertainty_gain_over_random": random - area,
        "uncertainty_error_spearman": spearman(pairs.std, errors),
    }
    correlation = spearman_interval(pairs.std, errors, conversations, params.bootstrap_samples, params.seed)
    return {
        **{name: finite(value) for name, value in figures.items()},
        **ends("uncertainty_gain_over_difference", percentile_interval((drawn[:, 1] - drawn[:, 0]).tolist())),
        **ends("uncertainty_gain_over_random", percentile_interval((drawn[:, 2] - drawn[:, 0]).tolist())),
        **ends("uncertainty_error_spearman", correlation),
    }


def auroc(high: Floats, low: Floats) -> float:
    """Probability that one of `high` is above one of `low`, a tie counting half."""
    return float(outranks(high, low).mean())


def outranks(high: Floats, low: Floats) -> Floats:
    """[N, M]: 1 where high[i] > low[j], 0.5 for a tie."""
    return (high[:, None] > low) + 0.5 * (high[:, None] == low)


def ood_figures(inside: ScoredChats, outside: Mapping[str, ScoredChats], params: RewardParams) -> Figures:
    """For each kind of changed chats, how well the standard deviation separates them from the test chats."""
    figures: Figures = {}
    for kind, scored in outside.items():
        above = outranks(scored.std, inside.std)
        drawn = []
        clusters = [*scored.conversations, *inside.conversations]
        for weights in resampled_weights(clusters, params.bootstrap_samples, params.seed):
            high, low = np.split(weights.astype(np.float64), [len(scored.std)])
            if high.any() and low.any():
                drawn.append(float(high @ above @ low / (high.sum() * low.sum())))
        figures |= bounded(f"ood_auroc_{kind}", auroc(scored.std, inside.std), percentile_interval(drawn))
    return figures


@dataclass(frozen=True)
class Uncertainty:
    """errors: on the test pairs; inside: a sample of their chats; outside: chats unlike them, by kind."""

    errors: PairErrors
    inside: ScoredChats
    outside: dict[str, ScoredChats]
