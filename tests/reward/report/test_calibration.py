"""Calibration: hand-computed bins and scores, and temperatures with a known answer."""

import math

import numpy as np
import pytest

from groundup.reward.report.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Bin,
    brier_scores,
    expected_calibration_error,
    fit_temperature,
    reliability,
    sigmoid,
)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def calibrated_sample(num_pairs: int, scale: float) -> np.ndarray:
    """Differences whose sign is positive as often as sigmoid(difference / scale) says."""
    rng = np.random.default_rng(7)
    size = scale * np.abs(rng.normal(size=num_pairs)) * 2
    return np.where(rng.random(num_pairs) < sigmoid(size / scale), size, -size)


def test_bins_by_hand() -> None:
    """Confidences 0.6, 0.6, 0.9 and a tie, in two bins: 0.5 to 0.75 and 0.75 to 1."""
    differences = np.array([logit(0.6), -logit(0.6), -logit(0.9), 0.0])
    low, high = reliability(differences, 1.0, num_bins=2)
    assert (low.low, low.high, low.num_pairs) == (0.5, 0.75, 3)
    assert [low.confidence, low.accuracy] == pytest.approx([(0.6 + 0.6 + 0.5) / 3, 0.5])
    assert (high.low, high.high, high.num_pairs) == (0.75, 1.0, 1)
    assert [high.confidence, high.accuracy] == pytest.approx([0.9, 0.0])
    error = expected_calibration_error([low, high])
    assert error == pytest.approx((3 * (1.7 / 3 - 0.5) + 1 * 0.9) / 4)


def test_a_bin_without_pairs_holds_none_and_counts_nothing() -> None:
    bins = reliability(np.array([logit(0.9)]), 1.0, num_bins=2)
    assert bins[0] == Bin(0.5, 0.75, 0, None, None)
    assert expected_calibration_error(bins) == pytest.approx(0.1)


def test_certainty_is_in_the_last_bin() -> None:
    bins = reliability(np.array([1e6, -1e6]), 1.0, num_bins=4)
    assert [bin.num_pairs for bin in bins] == [0, 0, 0, 2]
    assert bins[-1].confidence == 1.0
    assert expected_calibration_error(bins) == 0.5


def test_which_side_comes_first_does_not_matter_to_the_bins() -> None:
    """Equally many pairs in both orders: a model that is right half of the time."""
    bins = reliability(np.array([1.0, -1.0, 2.0, -2.0]), 1.0, num_bins=10)
    assert {bin.accuracy for bin in bins if bin.num_pairs} == {0.5}


def test_brier_by_hand() -> None:
    differences = np.array([logit(0.8), -logit(0.8), 0.0])
    assert brier_scores(differences, 1.0) == pytest.approx([0.04, 0.64, 0.25])
    assert brier_scores(2 * differences, 2.0) == pytest.approx([0.04, 0.64, 0.25])
    assert brier_scores(np.array([1e6, -1e6]), 0.01) == pytest.approx([0.0, 1.0])


def test_a_temperature_with_a_closed_form() -> None:
    """Differences of one size, right in three of four: sigmoid(2 / T) = 3 / 4."""
    assert fit_temperature(np.array([2.0, 2.0, 2.0, -2.0])) == pytest.approx(2 / math.log(3), rel=1e-12)


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_the_temperature_of_a_known_logistic_sample(scale: float) -> None:
    assert fit_temperature(calibrated_sample(40_000, scale)) == pytest.approx(scale, rel=0.03)


def test_a_calibrated_model_has_almost_no_error_and_an_overconfident_one_is_mended() -> None:
    differences = calibrated_sample(40_000, 1.0)
    assert expected_calibration_error(reliability(differences, 1.0, 10)) < 0.01
    overconfident = 3 * differences
    temperature = fit_temperature(overconfident)
    assert temperature == pytest.approx(3.0, rel=0.03)
    assert expected_calibration_error(reliability(overconfident, 1.0, 10)) > 0.05
    assert expected_calibration_error(reliability(overconfident, temperature, 10)) < 0.01
    assert brier_scores(overconfident, temperature).mean() < brier_scores(overconfident, 1.0).mean()


@pytest.mark.parametrize(
    ("differences", "temperature"),
    [
        ([1.0, 0.5, 3.0], MIN_TEMPERATURE),  # all right: certainty has the best likelihood
        ([1.0, 0.0, 2.0], MIN_TEMPERATURE),
        ([-1.0, -2.0, 1.0], MAX_TEMPERATURE),  # more wrong than right
        ([1.0, -1.0], MAX_TEMPERATURE),
        ([0.0, 0.0], None),
    ],
)
def test_where_the_likelihood_has_no_maximum(differences: list[float], temperature: float | None) -> None:
    assert fit_temperature(np.array(differences)) == temperature


def test_huge_differences_overflow_nowhere() -> None:
    differences = np.array([1e5, 1e5, -1e5])
    with np.errstate(over="raise", invalid="raise"):
        assert fit_temperature(differences) == MAX_TEMPERATURE  # its own would be 144,270
        reliability(differences, MIN_TEMPERATURE, 10)
        brier_scores(differences, MIN_TEMPERATURE)
