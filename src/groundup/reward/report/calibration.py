"""Calibration of a reward model: how often the chosen side is better, against the model's probability of it.

That probability is sigmoid((reward of chosen - reward of rejected) / temperature), as in Bradley-Terry.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundup.core.judging.statistics import Floats
from groundup.reward.report.figures import interval_of_mean
from groundup.reward.report.scores import ScoredPairs
from groundup.runner.params.training import RewardParams

# Limits for likelihoods without a maximum: all val pairs are right, or no more than half are.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
BISECTIONS = 100  # of the logarithm of that range: to full precision


@dataclass(frozen=True)
class Bin:
    """Pairs with a confidence from low to below high; the last bin includes 1.0."""

    low: float
    high: float
    num_pairs: int
    confidence: float | None  # mean; None without pairs
    accuracy: float | None


def calibration_figures(
    val_differences: Floats, test: ScoredPairs, params: RewardParams
) -> tuple[dict[str, Any], dict[str, list[Bin]]]:
    """Figures and bins of the test pairs, with the scores as they are and with the temperature fitted on val."""
    figures: dict[str, Any] = {"temperature": fit_temperature(val_differences)}
    bins: dict[str, list[Bin]] = {}
    for key, suffix, temperature in (("unscaled", "", 1.0), ("scaled", "_scaled", figures["temperature"])):
        names = (f"expected_calibration_error{suffix}", f"brier_score{suffix}")
        if temperature is None:
            figures |= dict.fromkeys([*names, f"{names[1]}_ci_low", f"{names[1]}_ci_high"])
            continue
        bins[key] = reliability(test.differences, temperature, params.report.calibration_bins)
        figures[names[0]] = expected_calibration_error(bins[key])
        scores = brier_scores(test.differences, temperature)
        figures |= interval_of_mean(names[1], scores, test.conversations)
    return figures, bins


def sigmoid(x: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -x))


def fit_temperature(differences: Floats) -> float | None:
    """The temperature of least negative log-likelihood (Guo et al. 2017); None if all differences are 0.

    differences: reward of chosen minus that of rejected, [N].
    """
    if not differences.any():
        return None

    def slope(inverse: float) -> float:
        """Slope of the negative log-likelihood in 1 / temperature, where it is convex."""
        return float(-(differences * sigmoid(-inverse * differences)).sum())

    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    if slope(math.exp(-low)) <= 0:
        return MIN_TEMPERATURE
    if slope(math.exp(-high)) >= 0:
        return MAX_TEMPERATURE
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(-middle)) <= 0 else (middle, high)
    return math.exp((low + high) / 2)


def brier_scores(differences: Floats, temperature: float) -> Floats:
    """Squared distance of each pair's probability from 1, [N]; a probability of one half scores 0.25."""
    return np.square(1 - sigmoid(differences / temperature))


def reliability(differences: Floats, temperature: float, num_bins: int) -> list[Bin]:
    """Bins of equal width by confidence, the probability of the side that scores higher: 0.5 to 1.

    The order of a pair's sides carries no information, so a pair counts by the model's confidence in its choice and
    whether that choice was right; a tie is half right.
    """
    confidence = sigmoid(np.abs(differences) / temperature)
    right = (np.sign(differences) + 1) / 2
    edges = np.linspace(0.5, 1.0, num_bins + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, num_bins - 1)
    bins = []
    for place in range(num_bins):
        here = places == place
        bins.append(
            Bin(
                low=float(edges[place]),
                high=float(edges[place + 1]),
                num_pairs=int(here.sum()),
                confidence=float(confidence[here].mean()) if here.any() else None,
                accuracy=float(right[here].mean()) if here.any() else None,
            )
        )
    return bins


def expected_calibration_error(bins: list[Bin]) -> float:
    """Distance between mean confidence and accuracy, averaged over pairs (Guo et al. 2017)."""
    total = sum(bin.num_pairs for bin in bins)
    filled = ((bin.num_pairs, bin.confidence, bin.accuracy) for bin in bins)
    return sum(n * abs(c - a) for n, c, a in filled if c is not None and a is not None) / total
