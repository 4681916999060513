"""Intervals against published values, and how often they hold the truth."""

from math import comb

import numpy as np
import pytest

from groundup.evaluate.intervals import paired_score_interval, relative_change


def changes(up: int, down: int, num_items: int) -> list[float]:
    return [1.0] * up + [-1.0] * down + [0.0] * (num_items - up - down)


def test_the_published_example() -> None:
    # Bentur et al. 2009 in Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33:2850): Tango's interval.
    low, high = paired_score_interval(changes(1, 7, 21), 1.0)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize(("num_items", "reach"), [(20, 0.1611), (40, 0.0876), (100, 0.0370)])
def test_nothing_that_changed_leaves_wilsons_reach(num_items: int, reach: float) -> None:
    low, high = paired_score_interval([0.0] * num_items, 1.0)
    assert (low, high) == pytest.approx((-reach, reach), abs=1e-4)
    assert paired_score_interval([0.0] * num_items, 2.0) == pytest.approx((-2 * reach, 2 * reach), abs=2e-4)


def test_all_changed_and_one_item() -> None:
    low, high = paired_score_interval([1.0] * 20, 1.0)
    assert (low, high) == pytest.approx((0.6777, 1.0), abs=1e-4)
    low, high = paired_score_interval([0.0], 1.0)
    assert low < -0.75
    assert high > 0.75


@pytest.mark.parametrize(
    ("up", "down"),
    [(0.01, 0.01), (0.05, 0.05), (0.1, 0.0), (0.1, 0.05), (0.15, 0.0), (0.25, 0.1), (0.125, 0.125), (0.3, 0.05)],
)
def test_it_holds_the_truth_in_95_percent_of_all_samples(up: float, down: float) -> None:
    """Exact: every sample of 40 items with its probability. A gate at the truth lets 2.5 % pass at most."""
    held = below = 0.0
    for a in range(41):
        for b in range(41 - a):
            chance = comb(40, a) * comb(40 - a, b) * up**a * down**b * (1 - up - down) ** (40 - a - b)
            if chance > 1e-9:
                low, high = paired_score_interval(changes(a, b, 40), 1.0)
                held += chance * (low <= up - down <= high)
                below += chance * (high < up - down)
    assert held >= 0.949
    assert below <= 0.025


def test_changes_of_a_part_of_the_replies_are_taken_for_rarer_whole_ones() -> None:
    halves = paired_score_interval([0.5] * 4 + [0.0] * 36, 1.0)
    assert halves == pytest.approx(paired_score_interval([1.0] * 2 + [0.0] * 38, 1.0))


def test_a_relative_change_of_the_same_prompts_and_of_others() -> None:
    before, after = np.array([10.0, 20.0, 30.0]), np.array([11.0, 22.0, 33.0])
    weights = np.array([[1, 1, 1], [3, 0, 0], [0, 0, 3], [1, 2, 0]], dtype=np.float64)
    paired = relative_change("length", before, after, (weights, weights))
    assert list(paired) == ["length", "length_ci_low", "length_ci_high"]
    assert list(paired.values()) == pytest.approx([0.1, 0.1, 0.1])
    unpaired = relative_change("length", before, after, (weights, weights[::-1]))
    assert unpaired["length"] == pytest.approx(0.1)
    assert unpaired["length_ci_low"] < 0 < 0.5 < unpaired["length_ci_high"]
