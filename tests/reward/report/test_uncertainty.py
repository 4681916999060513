"""Uncertainty figures: on values computed by hand, and on scores with exactly known uncertainty."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from groundup.reward.report.uncertainty import (
    PairErrors,
    ScoredChats,
    auroc,
    ood_figures,
    pair_figures,
    risk_area,
    risk_coverage,
)
from tests.reward.report.test_figures import PARAMS

RESAMPLING = PARAMS.model_copy(update={"bootstrap_samples": 200, "seed": 1})


def test_risk_coverage_on_literal_values() -> None:
    errors = np.array([0.0, 1.0, 0.5, 1.0])
    assert risk_coverage(errors, np.ones(4)).tolist() == pytest.approx([0, 1 / 2, 1.5 / 3, 2.5 / 4])
    assert risk_area(errors, np.ones(4)) == pytest.approx((0 + 1 / 2 + 1 / 2 + 5 / 8) / 4)


def test_a_weight_is_so_many_copies_at_the_place_of_the_last() -> None:
    errors = np.array([1.0, 0.0, 1.0])
    assert risk_coverage(errors, np.array([0.0, 2.0, 1.0])).tolist() == pytest.approx([0, 0, 1 / 3])
    assert risk_area(errors, np.array([0.0, 2.0, 1.0])) == pytest.approx((0 * 2 + 1 / 3) / 3)


def test_errors_of_pairs() -> None:
    means = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [3.0, 0.0]])
    stds = np.array([[0.6, 0.8], [0.3, 0.4], [1.0, 1.0], [30.0, 40.0]])
    pairs = PairErrors.of(means, stds)
    assert pairs.errors.tolist() == [0.0, 1.0, 0.5, 0.0]
    assert pairs.std.tolist() == pytest.approx([1.0, 0.5, math.sqrt(2), 50.0])
    assert pairs.by_ratio.tolist() == [1, 0, 3, 2]  # 2, 1, 0.06, 0
    assert pairs.by_difference.tolist() == [3, 0, 1, 2]
    assert pairs.at_coverages()[1.0] == pytest.approx((0.375, 0.375))
    assert pairs.at_coverages()[0.4] == pytest.approx((0.5, 0.0))
    assert pairs.at_coverages()[0.2] == pytest.approx((1.0, 0.0))


def test_uncertainty_that_is_right_helps_and_one_that_is_not_does_not() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(0.1, 4.0, 1500)
    truth = 0.7
    means = np.stack([truth + std * rng.standard_normal(1500), np.zeros(1500)], axis=1)
    conversations = [(str(i // 2), f"r{i}") for i in range(1500)]

    def figures(stds: np.ndarray) -> Any:
        pairs = PairErrors.of(means, np.stack([stds, np.zeros(1500)], axis=1))
        return pair_figures(pairs, conversations, RESAMPLING)

    right, mixed = figures(std), figures(rng.permutation(std))
    assert right["uncertainty_gain_over_difference_ci_low"] > 0.05
    assert right["uncertainty_gain_over_random_ci_low"] > 0.05
    assert right["uncertainty_error_spearman_ci_low"] > 0.2
    assert mixed["uncertainty_gain_over_difference"] < 0.05
    assert mixed["uncertainty_error_spearman_ci_low"] < 0 < mixed["uncertainty_error_spearman_ci_high"]
    assert right["uncertainty_risk_area_random"] == mixed["uncertainty_risk_area_random"]
    assert right["uncertainty_gain_over_random"] == pytest.approx(
        right["uncertainty_risk_area_random"] - right["uncertainty_risk_area"]
    )


def test_auroc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    high, low = rng.integers(2, 9, 40).astype(float), rng.integers(0, 7, 60).astype(float)
    labels = np.repeat([1, 0], [40, 60])
    assert auroc(high, low) == pytest.approx(roc_auc_score(labels, np.concatenate([high, low])))
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert auroc(np.array([1.0]), np.array([1.0])) == 0.5


def scored(stds: np.ndarray) -> ScoredChats:
    return ScoredChats(stds, [[str(i)] for i in range(len(stds))])


def test_what_is_out_of_distribution_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    inside = scored(rng.normal(1.0, 0.1, 80))
    outside = {"strange": scored(rng.normal(1.2, 0.1, 70)), "usual": scored(rng.normal(1.0, 0.1, 80))}
    figures = ood_figures(inside, outside, RESAMPLING)
    assert 0.8 < figures["ood_auroc_strange_ci_low"] < figures["ood_auroc_strange"] < 1.0
    assert figures["ood_auroc_usual_ci_low"] < 0.5 < figures["ood_auroc_usual_ci_high"]
    assert figures == ood_figures(inside, outside, RESAMPLING)
