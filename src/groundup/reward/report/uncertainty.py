"""What a reward model's uncertainty is worth: whether it tells wrong pairs, and chats unlike those trained on.

Pure functions of scores. Intervals are 95 %, resampled over conversations.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.core.judging.statistics import percentile_interval, resampled_weights, spearman, spearman_interval

Floats = NDArray[np.float64]
Clusters = Sequence[Sequence[str]]
COVERAGES = (1.0, 0.8, 0.6, 0.4, 0.2)


@dataclass(frozen=True)
class Scored:
    """Scores of N chats and the conversations that each comes from."""

    mean: Floats  # [N]
    std: Floats  # [N]
    conversations: Clusters


@dataclass(frozen=True)
class Resampling:
    num_samples: int
    seed: int


def risk_coverage(errors: Floats, weights: Floats) -> Floats:
    """Mean error of the first 1, 2, ... N pairs, which are in descending order of confidence: [N].

    A pair counts weights[i] times; 0 before the first that counts.
    """
    kept = np.cumsum(weights)
    return np.cumsum(weights * errors) / np.maximum(kept, 1)


def risk_area(errors: Floats, weights: Floats) -> float:
    """Area under the risk-coverage curve (Geifman and El-Yaniv 2017): the mean of its values."""
    return float(risk_coverage(errors, weights) @ weights / weights.sum())


@dataclass(frozen=True)
class PairErrors:
    """How wrong the model is about N pairs, and two orders of descending confidence in them."""

    errors: Floats  # [N] 1 for a wrong order, a half for a tie
    std: Floats  # [N] of the difference
    by_ratio: NDArray[np.int64]  # [N] by |difference of means| / std
    by_difference: NDArray[np.int64]  # [N] by |difference of means| alone

    @classmethod
    def of(cls, means: Floats, stds: Floats) -> "PairErrors":
        """Scores of the chosen side and of the rejected one, [N, 2]."""
        difference = means[:, 0] - means[:, 1]
        std = np.hypot(stds[:, 0], stds[:, 1])
        errors = np.where(difference == 0, 0.5, (difference < 0).astype(np.float64))
        by_ratio, by_difference = (
            np.argsort(-x, kind="stable") for x in (np.abs(difference) / std, np.abs(difference))
        )
        return cls(errors, std, by_ratio, by_difference)

    def at_coverages(self) -> dict[float, tuple[float, float]]:
        """Share of pairs kept -> error among them by ratio, and by difference."""
        ones = np.ones_like(self.errors)
        curves = [risk_coverage(self.errors[order], ones) for order in (self.by_ratio, self.by_difference)]
        last = {share: max(1, round(share * len(ones))) - 1 for share in COVERAGES}
        return {share: (float(curves[0][i]), float(curves[1][i])) for share, i in last.items()}


def pair_figures(pairs: PairErrors, conversations: Clusters, resampling: Resampling) -> dict[str, float]:
    """Whether the model is less often wrong about pairs of which it is more certain."""
    errors, ones = pairs.errors, np.ones_like(pairs.errors)

    def areas(weights: Floats) -> Floats:
        """In the order of the ratio, in that of the difference, and in none: [3]."""
        orders = (pairs.by_ratio, pairs.by_difference)
        sorted_areas = [risk_area(errors[order], weights[order]) for order in orders]
        return np.array([*sorted_areas, errors @ weights / weights.sum()])

    drawn = np.array(
        [
            areas(weights.astype(np.float64))
            for weights in resampled_weights(conversations, resampling.num_samples, resampling.seed)
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
    figures |= interval("uncertainty_gain_over_difference", (drawn[:, 1] - drawn[:, 0]).tolist())
    figures |= interval("uncertainty_gain_over_random", (drawn[:, 2] - drawn[:, 0]).tolist())
    low, high = spearman_interval(pairs.std, errors, conversations, resampling.num_samples, resampling.seed)
    figures |= {"uncertainty_error_spearman_ci_low": low, "uncertainty_error_spearman_ci_high": high}
    return {name: float(value) for name, value in figures.items()}


def auroc(high: Floats, low: Floats) -> float:
    """Probability that one of `high` is above one of `low`, a tie counting half."""
    return float(outranks(high, low).mean())


def outranks(high: Floats, low: Floats) -> Floats:
    """[N, M]: 1 where high[i] > low[j], a half for a tie."""
    return (high[:, None] > low) + 0.5 * (high[:, None] == low)


def ood_figures(inside: Scored, outside: Mapping[str, Scored], resampling: Resampling) -> dict[str, float]:
    """For each kind of chat out of distribution, how well the standard deviation tells it from the test chats."""
    figures: dict[str, float] = {}
    for kind, scored in outside.items():
        above = outranks(scored.std, inside.std)
        drawn = []
        clusters = [*scored.conversations, *inside.conversations]
        for weights in resampled_weights(clusters, resampling.num_samples, resampling.seed):
            high, low = np.split(weights.astype(np.float64), [len(scored.std)])
            if high.any() and low.any():
                drawn.append(float(high @ above @ low / (high.sum() * low.sum())))
        name = f"ood_auroc_{kind}"
        figures |= {name: auroc(scored.std, inside.std)} | interval(name, drawn)
    return figures


def interval(name: str, resampled: Sequence[float]) -> dict[str, float]:
    low, high = percentile_interval(resampled)
    return {f"{name}_ci_low": low, f"{name}_ci_high": high}


def section(
    figures: Mapping[str, float],
    at_coverage: Mapping[float, tuple[float, float]],
    inside: Scored,
    outside: Mapping[str, Scored],
) -> str:
    """Markdown of the report."""
    kinds = "\n".join(
        f"| {kind} | {len(scored.std)} | {scored.std.mean():.3f} | {with_interval(figures, f'ood_auroc_{kind}')} |"
        for kind, scored in outside.items()
    )
    told = [kind for kind in outside if figures[f"ood_auroc_{kind}_ci_low"] > 0.5]
    missed = [kind for kind in outside if kind not in told]
    kept = "\n".join(f"| {share:.0%} | {both:.3f} | {alone:.3f} |" for share, (both, alone) in at_coverage.items())
    gain = figures["uncertainty_gain_over_difference_ci_low"] > 0
    return f"""## Uncertainty

Replies that are {" or ".join(told) or "none of the kinds below"} have provably a higher standard deviation than test
chats{f"; not so: {', '.join(missed)}" if missed else ""}. AUROC is the probability that such a chat's is above a test
chat's.

| last reply | chats | mean standard deviation | AUROC |
|---|---|---|---|
| as it is | {len(inside.std)} | {inside.std.mean():.3f} | |
{kinds}

Pairs in descending order of confidence, |difference| / standard deviation of it, and of |difference| alone: the error
among those kept. The standard deviation {"provably helps" if gain else "does not provably help"} to tell wrong pairs:
the area under the curve falls by {with_interval(figures, "uncertainty_gain_over_difference")}.

| kept | error | by difference alone |
|---|---|---|
{kept}

Rank correlation of standard deviation and error: {with_interval(figures, "uncertainty_error_spearman")}.
"""


def with_interval(figures: Mapping[str, float], name: str) -> str:
    if math.isnan(figures[name]):
        return "not measured, for all pairs are right or all are wrong"
    return f"{figures[name]:.3f} ({figures[f'{name}_ci_low']:.3f} to {figures[f'{name}_ci_high']:.3f})"
