"""The cluster bootstrap against cases whose answer is known."""

import numpy as np
import pytest

from groundup.statistics import cluster_bootstrap, wins


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
    assert wins([1.0, 2.0, 3.0], [0.5, 2.0, 4.0]) == [1.0, 0.5, 0.0]
