"""Confidence intervals with the conversation as the unit of resampling."""

from collections.abc import Sequence

import numpy as np


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[Sequence[str]],
    num_samples: int,
    seed: int,
) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values`, resampling clusters (Efron and Tibshirani 1993, chapter 13).

    clusters[i] names the conversations behind values[i]; a value counts as often as all of them were drawn together,
    so pairs that share a conversation are not taken for independent.
    """
    if not values:
        raise ValueError("cluster_bootstrap needs at least one value")
    groups = [sorted(set(group)) for group in clusters]
    names = sorted({name for group in groups for name in group})
    index = {name: i for i, name in enumerate(names)}
    # [N, largest group]: cluster indices, short groups filled with one more index whose count is always 1.
    members = np.full((len(groups), max(len(group) for group in groups)), len(names))
    for row, group in enumerate(groups):
        members[row, : len(group)] = [index[name] for name in group]
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = np.full(num_samples, np.nan)
    for sample in range(num_samples):
        counts = np.append(np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)), 1)
        weights = counts[members].prod(axis=1)
        if weights.sum() > 0:
            means[sample] = (weights * array).sum() / weights.sum()
    low, high = np.nanquantile(means, [0.025, 0.975])
    return float(low), float(high)


def wins(values: Sequence[float], against: Sequence[float]) -> list[float]:
    """1 where the value is higher, 0 where it is lower, a half for a tie."""
    return [0.5 if a == b else float(a > b) for a, b in zip(values, against, strict=True)]
