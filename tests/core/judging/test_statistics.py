"""Intervals and standard errors against cases with a known answer."""

import math

import numpy as np
import pytest

from groundup.core.judging.statistics import (
    cluster_bootstrap,
    clustered_mean,
    resampled_weights,
    spearman,
    spearman_interval,
    wins,
)


def test_constant_values_have_no_spread() -> None:
    assert cluster_bootstrap([0.7] * 9, [[str(i)] for i in range(9)], 200, seed=0) == pytest.approx((0.7, 0.7))


def test_independent_values_get_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(size=400)
    low, high = cluster_bootstrap(values.tolist(), [[str(i)] for i in range(400)], 4000, seed=0)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_copies_within_a_cluster_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(2).normal(size=60).tolist()
    single = cluster_bootstrap(values, [[str(i)] for i in range(60)], 2000, seed=0)
    copied = cluster_bootstrap(values * 5, [[str(i)] for i in range(60)] * 5, 2000, seed=0)
    assert copied == pytest.approx(single)


def test_shared_conversations_widen_the_interval_of_pairs() -> None:
    rng = np.random.default_rng(3)
    effects = rng.normal(size=20)
    pairs = [(a, b) for a in range(20) for b in range(a)]
    values = [effects[a] + effects[b] for a, b in pairs]
    naive = cluster_bootstrap(values, [[str(i)] for i in range(len(pairs))], 1000, seed=0)
    honest = cluster_bootstrap(values, [[str(a), str(b)] for a, b in pairs], 1000, seed=0)
    assert honest[1] - honest[0] > 2 * (naive[1] - naive[0])


def test_the_same_seed_gives_the_same_interval() -> None:
    arguments = ([0.0, 1.0, 1.0], [["a"], ["b"], ["c"]], 100)
    assert cluster_bootstrap(*arguments, seed=5) == cluster_bootstrap(*arguments, seed=5)


def test_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        cluster_bootstrap([], [], 10, seed=0)


def test_a_value_of_one_conversation_counts_once_however_often_it_is_named() -> None:
    values = [0.0, 1.0, 1.0, 3.0]
    once = cluster_bootstrap(values, [["a"], ["b"], ["c"], ["d"]], 500, seed=0)
    assert cluster_bootstrap(values, [["a", "a"], ["b", "b"], ["c", "c"], ["d", "d"]], 500, seed=0) == once


def test_a_tie_counts_half() -> None:
    assert wins([1.0, 2.0, 3.0], [0.5, 2.0, 4.0]).tolist() == [1.0, 0.5, 0.0]


def test_spearman_by_hand() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert spearman([1, 2, 3, 4], [9, 7, 5, -100]) == pytest.approx(-1.0)
    assert spearman([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(1 - 6 * 4 / (4 * 15))
    # A tie has the mean rank: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    assert spearman([1, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_spearman_of_a_constant_is_no_number() -> None:
    assert np.isnan(spearman([3, 3, 3], [1, 2, 3]))
    assert np.isnan(spearman([1], [1]))
    assert np.isnan(spearman_interval([0.1, 0.1, 0.1], [1, 2, 3], [["a"], ["b"], ["c"]], 50, seed=0)).all()


def test_the_interval_of_spearman_is_that_of_repeated_rows() -> None:
    """Weights stand for rows drawn more than once: the same resamples, written out."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=30), rng.integers(0, 4, size=30)
    clusters = [[str(i % 11)] for i in range(30)]
    written_out = []
    for weights in resampled_weights(clusters, 300, seed=6):
        rows = np.repeat(np.arange(30), weights)
        written_out.append(spearman(x[rows], y[rows]))
    low, high = np.quantile(written_out, [0.025, 0.975])
    assert spearman_interval(x, y, clusters, 300, seed=6) == pytest.approx((low, high))


def test_the_interval_of_spearman_covers_and_narrows() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=800)
    y = x + rng.normal(size=800)
    widths = []
    for n in (50, 800):
        low, high = spearman_interval(x[:n], y[:n], [[str(i)] for i in range(n)], 400, seed=0)
        assert low < spearman(x[:n], y[:n]) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_no_resample_with_a_value_is_no_number_and_no_warning() -> None:
    """A pair counts only if both of its conversations are drawn: with this seed, never."""
    low, high = cluster_bootstrap([1.0], [["a", "b"]], 1, seed=0)
    assert np.isnan([low, high]).all()


def test_clustered_mean_by_hand() -> None:
    # A cluster per value: the standard error of the mean, sd / sqrt(n).
    values = [1.0, 2.0, 4.0, 9.0]
    mean, error = clustered_mean(values, ["a", "b", "c", "d"])
    assert mean == 4.0
    assert error == pytest.approx(np.std(values, ddof=1) / 2)
    # Clusters {1, 2} and {4, 9}: residuals sum to -5 and 5, so the variance is (25 + 25) x 2 / 16.
    assert clustered_mean(values, ["a", "a", "b", "b"]) == (4.0, 2.5)


def test_copies_of_a_value_add_no_certainty() -> None:
    values, names = [1.0, 2.0, 4.0], ["a", "b", "c"]
    assert clustered_mean(values * 5, names * 5) == pytest.approx(clustered_mean(values, names))
    assert clustered_mean(values * 5, [f"{i}" for i in range(15)])[1] < clustered_mean(values, names)[1]


def test_a_single_cluster_says_nothing_about_others() -> None:
    assert clustered_mean([1.0, 2.0], ["a", "a"]) == (1.5, math.inf)
