"""Plots of the reward model's report."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from groundup.core.judging.plots import BLUE, GRID, INK, ORANGE, TEAL, legend, style, to_png
from groundup.reward.report.calibration import Bin
from groundup.reward.report.figures import Bucket

RELIABILITY = {"unscaled": ("as it is", BLUE), "scaled": ("with temperature", ORANGE)}
ROW_HEIGHT = 0.26  # inches


def reliability_png(bins: Mapping[str, Sequence[Bin]]) -> bytes:
    """Accuracy against confidence, and the number of pairs in each bin; bins: unscaled, and scaled if it exists."""
    return to_png(partial(_paint_reliability, bins), 4.4, 4.0)


def accuracy_png(buckets: Sequence[Bucket]) -> bytes:
    """Each bucket's accuracy with its interval, and both baselines."""
    return to_png(partial(_paint_accuracy, buckets), 5.6, 1.3 + ROW_HEIGHT * len(buckets))


def _paint_reliability(bins: Mapping[str, Sequence[Bin]], figure: Figure) -> None:
    upper, lower = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    upper.plot([0.5, 1], [0.5, 1], color=GRID, linewidth=0.9, linestyle="--", label="as right as it claims")
    for place, (key, group) in enumerate(bins.items()):
        label, color = RELIABILITY[key]
        filled = [bin for bin in group if bin.num_pairs]
        points = np.array([(bin.confidence, bin.accuracy) for bin in filled], dtype=np.float64).reshape(-1, 2)
        upper.plot(*points.T, color=color, linewidth=1.4, marker="o", markersize=4, label=label)
        width = 0.5 / len(group) * 0.4
        lefts = [(bin.low + bin.high) / 2 + (place - 1) * width for bin in group]
        lower.bar(lefts, [bin.num_pairs for bin in group], width, align="edge", color=color)
    style(upper, "Accuracy against confidence", "")
    style(lower, "Pairs in each bin", "confidence in the side that scores higher")
    upper.set_xlim(0.49, 1.01)
    upper.set_ylim(-0.03, 1.03)
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    legend(upper)


def _paint_accuracy(buckets: Sequence[Bucket], figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.axvline(0.5, color=GRID, linewidth=0.9, linestyle="--")
    rows = [(place, bucket) for place, bucket in enumerate(buckets) if bucket.num_pairs]
    places = [place for place, _ in rows]
    ends = [(bucket.heldout_accuracy_ci_low, bucket.heldout_accuracy_ci_high) for _, bucket in rows]
    lows, highs = np.array(ends, dtype=np.float64).T  # None becomes NaN, which draws nothing
    axes.hlines(places, lows, highs, color=BLUE, linewidth=1.9)
    for label, accuracies, marker, size, color in (
        ("prefer the longer side", [bucket.length_only_accuracy for _, bucket in rows], "|", 10, TEAL),
        ("bag of words", [bucket.bag_of_words_accuracy for _, bucket in rows], "x", 5, ORANGE),
        ("reward model, 95 %", [bucket.heldout_accuracy for _, bucket in rows], "o", 5, BLUE),
    ):
        xs = np.array(accuracies, dtype=np.float64)
        axes.plot(xs, places, marker, color=color, markersize=size, markeredgewidth=1.6, label=label)
    style(axes, "Accuracy on test pairs", "accuracy")
    axes.grid(axis="y", visible=False)
    axes.set_yticks(range(len(buckets)), [f"{bucket.name} ({bucket.num_pairs})" for bucket in buckets], color=INK)
    axes.set_ylim(len(buckets) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
