"""Confidence intervals where values of one conversation are not independent."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]

NORMAL_QUANTILE = 1.96  # 95 %


def cluster_bootstrap(
    values: Sequence[float] | Floats,
    clusters: Sequence[Sequence[str]],
    num_samples: int,
    seed: int,
) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values`, resampling clusters (Efron and Tibshirani 1993, chapter 13).

    clusters[i] names the conversations behind values[i], which counts as often as all of them are drawn together.
    """
    if not len(values):
        raise ValueError("cluster_bootstrap needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    drawn = (weights for weights in resampled_weights(clusters, num_samples, seed) if weights.any())
    return percentile_interval([float((weights * array).sum() / weights.sum()) for weights in drawn])


def resampled_weights(clusters: Sequence[Sequence[str]], num_samples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """For each resample, how often each value counts: [N]."""
    groups = [sorted(set(group)) for group in clusters]
    names = sorted({name for group in groups for name in group})
    index = {name: i for i, name in enumerate(names)}
    # [N, largest group]: cluster indices; short groups are filled with an extra index whose count is always 1.
    members = np.full((len(groups), max(len(group) for group in groups)), len(names))
    for row, group in enumerate(groups):
        members[row, : len(group)] = [index[name] for name in group]
    rng = np.random.default_rng(seed)
    for _ in range(num_samples):
        counts = np.append(np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)), 1)
        yield counts[members].prod(axis=1)


def percentile_interval(resampled: Sequence[float]) -> tuple[float, float]:
    """95 % interval; NaN if no resample had a value."""
    if not resampled:
        return math.nan, math.nan
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation, ties at their mean rank; NaN where x or y is constant."""
    codes = (_codes(x), _codes(y))
    return _rank_correlation(*codes, np.ones(len(codes[0]), dtype=np.int64))


def spearman_interval(
    x: ArrayLike, y: ArrayLike, clusters: Sequence[Sequence[str]], num_samples: int, seed: int
) -> tuple[float, float]:
    """95 % percentile interval of `spearman`, resampling clusters; NaN where x or y is constant in all resamples."""
    codes = (_codes(x), _codes(y))
    drawn = (
        _rank_correlation(*codes, weights)
        for weights in resampled_weights(clusters, num_samples, seed)
        if weights.any()
    )
    return percentile_interval([value for value in drawn if not math.isnan(value)])


def _codes(values: ArrayLike) -> NDArray[np.int64]:
    """[N]: the index of each value among the sorted distinct values."""
    return np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)[1]


def _rank_correlation(x: NDArray[np.int64], y: NDArray[np.int64], weights: NDArray[np.int64]) -> float:
    """Spearman correlation of values given by their codes, each counted weights[i] times."""
    deviations = []
    for codes in (x, y):
        counts = np.bincount(codes, weights=weights)
        ranks = (np.cumsum(counts) - counts / 2)[codes]
        deviations.append(ranks - (weights * ranks).sum() / weights.sum())
    a, b = deviations
    scale = math.sqrt((weights * a * a).sum() * (weights * b * b).sum())
    return float((weights * a * b).sum() / scale) if scale > 0 else math.nan


def wins(values: ArrayLike, against: ArrayLike) -> Floats:
    """1 where the value is higher, 0 where it is lower, 0.5 for a tie."""
    return np.asarray((1 + np.sign(np.subtract(values, against))) / 2, dtype=np.float64)


def clustered_mean(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    """Mean and its standard error when values of one cluster are not independent (Liang and Zeger 1986).

    The error is infinite with a single cluster, which shows nothing about other clusters.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    array = np.asarray(values, dtype=np.float64)
    if len(names) < 2:
        return float(array.mean()), math.inf
    totals = np.bincount(index, weights=array - array.mean())
    variance = np.square(totals).sum() * len(names) / (len(names) - 1) / len(array) ** 2
    return float(array.mean()), float(np.sqrt(variance))


def sharing_mean(values: Sequence[float] | Floats, members: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Mean and its standard error when two values are independent only if they share no member.

    With two members each: Aronow, Samii and Assenova 2015. The error is at least that of independent values, and
    infinite if all have the same members. It says nothing of what a member that all values share adds.
    """
    array = np.asarray(values, dtype=np.float64)
    groups = [sorted(set(group)) for group in members]
    if len(set(map(tuple, groups))) < 2:
        return float(array.mean()), math.inf
    names = {name: column for column, name in enumerate(sorted(set(chain.from_iterable(groups))))}
    rows, columns = zip(*((row, names[name]) for row, group in enumerate(groups) for name in group), strict=True)
    belongs = csr_array((np.ones(len(rows)), (rows, columns)))
    shares = (belongs @ belongs.T).astype(bool).astype(np.float64)  # [N, N]
    residuals = array - array.mean()
    squares = max(residuals @ (shares @ residuals), residuals @ residuals)
    variance = squares * len(names) / (len(names) - 1) / len(array) ** 2
    return float(array.mean()), float(np.sqrt(variance))


def sharing_interval(values: Sequence[float] | Floats, members: Sequence[Sequence[str]]) -> tuple[float, float]:
    """95 % interval of `sharing_mean` by the normal distribution, within the range of the values.

    A bootstrap that counts a pair as often as both of its members are drawn has three times the variance of pairs that
    share nothing (Owen 2007).
    """
    mean, error = sharing_mean(values, members)
    low, high = mean - NORMAL_QUANTILE * error, mean + NORMAL_QUANTILE * error
    return max(low, float(np.min(values))), min(high, float(np.max(values)))
