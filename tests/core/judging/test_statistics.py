"""Intervals and standard errors against cases with a known answer."""

import math

import numpy as np
import pytest

from groundup.core.judging.statistics import (
    cluster_bootstrap,
    clustered_mean,
    resampled_weights,
    sharing_interval,
    sharing_mean,
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
    assert sharing_mean([1.0, 2.0], [("a", "b"), ("b", "a")]) == (1.5, math.inf)


def test_the_error_of_pairs_by_hand() -> None:
    # Mean 3; residuals -2 of {a, b}, -1 of {b, c}, 3 of {d, e}. Those two share b: 4 + 1 + 9 + 2 x (-2 x -1) = 18.
    mean, error = sharing_mean([1.0, 2.0, 6.0], [("a", "b"), ("b", "c"), ("d", "e")])
    assert mean == 3.0
    assert error == pytest.approx(math.sqrt(18 * 5 / 4) / 3)
    # The same pair twice, in either order, shares both members, which counts once: (-2 - 1)^2 + 9 = 18.
    again = sharing_mean([1.0, 2.0, 6.0], [("a", "b"), ("b", "a"), ("d", "e")])
    assert again[1] == pytest.approx(math.sqrt(18 * 4 / 3) / 3)


def test_values_of_one_member_are_clusters() -> None:
    values, names = [1.0, 2.0, 4.0, 9.0, 3.0], ["a", "a", "b", "b", "c"]
    assert sharing_mean(values, [(name, name) for name in names]) == pytest.approx(clustered_mean(values, names))


def test_a_third_member_can_be_shared_too() -> None:
    apart = sharing_mean([1.0, 1.0, 4.0], [("a", "b"), ("c", "d"), ("e", "f")])[1]
    behind_one_prompt = sharing_mean([1.0, 1.0, 4.0], [("a", "b", "p"), ("c", "d", "p"), ("e", "f", "q")])[1]
    assert apart == pytest.approx(math.sqrt((1 + 1 + 4) * 6 / 5) / 3)
    assert behind_one_prompt == pytest.approx(math.sqrt((1 + 1 + 4 + 2) * 8 / 7) / 3)


def test_pairs_that_share_nothing_have_the_error_of_a_mean() -> None:
    values = np.random.default_rng(0).random(50)
    error = sharing_mean(values, [(f"a{i}", f"b{i}") for i in range(50)])[1]
    assert error == pytest.approx(values.std() / math.sqrt(50) * math.sqrt(100 / 99))


def test_values_that_cancel_within_a_conversation_are_no_more_certain_than_apart() -> None:
    """Residuals 1 and -1 of pairs that share a conversation: their sum alone would say that the error is zero."""
    together = sharing_mean([1.0, -1.0], [("a", "b"), ("b", "c")])[1]
    assert together == pytest.approx(math.sqrt(2 * 3 / 2) / 2)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_intervals_of_pairs_hold_the_mean_as_often_as_they_say(spread: float) -> None:
    """200 pairs of 80 conversations, some of which are easier than others."""
    rng = np.random.default_rng(1)

    def draw(num: int) -> tuple[np.ndarray, list[tuple[str, str]]]:
        effects = rng.normal(0, spread, 80)
        first = rng.integers(0, 80, num)
        second = (first + rng.integers(1, 80, num)) % 80
        chance = 1 / (1 + np.exp(-0.6 - effects[first] + effects[second]))
        pairs = [(str(a), str(b)) for a, b in zip(first, second, strict=True)]
        return (rng.random(num) < chance).astype(float), pairs

    truth = np.mean([draw(2000)[0].mean() for _ in range(500)])
    held = [low <= truth <= high for low, high in (sharing_interval(*draw(200)) for _ in range(400))]
    assert 0.915 <= np.mean(held) <= 0.975


def test_an_interval_stays_within_the_values() -> None:
    values, pairs = [1.0] * 19 + [0.0], [(f"a{i}", f"b{i}") for i in range(20)]
    low, high = sharing_interval(values, pairs)
    assert 0.8 < low < 0.95
    assert high == 1.0
    assert sharing_interval([1.0] * 20, pairs) == (1.0, 1.0)
