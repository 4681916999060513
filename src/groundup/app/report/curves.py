"""Plots: the curves that the stages logged, one per measure, and the charts of evaluate."""

import base64
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from groundup.core.judging.plots import BLUE, INK, ORANGE, TEAL, legend, style, to_png
from groundup.evaluate.shown import Chart

MAX_PANELS = 6  # per stage; MLflow shows the rest
SMOOTHING_SHARE = 1 / 30  # of the points: the window that a dense curve is averaged over
DENSE = 60  # curves with more points are smoothed

# Measures to plot, the most informative first; other columns follow in the order of the file.
TITLES = {
    "loss": "Loss",
    "bits_per_byte": "Bits per byte",
    "accuracy": "Accuracy",
    "reward": "Reward",
    "kl": "KL to the SFT model (nats per reply)",
    "kl_to_reference": "KL to the SFT model (nats per reply)",
    "kl_coefficient": "KL coefficient",
    "entropy": "Entropy (nats per token)",
    "explained_variance": "Explained variance of the value model",
    "reply_length": "Length of a reply (tokens)",
    "end_of_turn_rate": "Replies that end by themselves",
    "length_coefficient": "Length coefficient",
}
COLORS = {"train": BLUE, "val": ORANGE, "heldout": TEAL, "": BLUE}


@dataclass(frozen=True)
class Curve:
    split: str  # train, val, heldout, or empty if the file does not say
    steps: list[float]
    values: list[float]


@dataclass(frozen=True)
class Panel:
    title: str
    curves: list[Curve]


def read_columns(path: Path) -> dict[str, list[float]]:
    """Column -> values, NaN where a metric was not measured; ValueError names a line that is not all numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    columns: dict[str, list[float]] = {name: [] for name in header}
    for number, row in enumerate(rows, start=2):
        try:
            for name, cell in zip(header, row, strict=True):
                columns[name].append(float(cell) if cell else math.nan)
        except ValueError:
            raise ValueError(
                f"{path}, line {number} is not a row of numbers: {','.join(row)!r:.60}; delete the file, then `dvc "
                "repro` writes it again"
            ) from None
    return columns


def read_panels(path: Path) -> list[Panel]:
    """The panels of one stage's CSV: columns x, train_x, val_x and heldout_x share a panel."""
    columns = read_columns(path)
    by_measure: dict[str, list[Curve]] = {}
    for column in columns:
        if column in ("step", "epoch") or "learning_rate" in column:  # settings are not results
            continue
        split, _, rest = column.partition("_")
        split, measure = (split, rest) if split in COLORS and rest else ("", column)
        points = list(zip(columns["step"], columns[column], strict=True))
        points = [(step, value) for step, value in points if math.isfinite(value)]
        if len({step for step, _ in points}) > 1:
            curve = Curve(split, [step for step, _ in points], [value for _, value in points])
            by_measure.setdefault(measure, []).append(curve)
    order = list(TITLES)
    ranked = sorted(by_measure, key=lambda measure: order.index(measure) if measure in order else len(order))
    return [
        Panel(TITLES.get(measure, measure.replace("_", " ").capitalize()), by_measure[measure])
        for measure in ranked[:MAX_PANELS]
    ]


def draw_panel(panel: Panel) -> bytes:
    """The panel as PNG."""
    return to_png(partial(_paint, panel), 4.4, 2.6)


def _paint(panel: Panel, figure: Figure) -> None:
    axes = figure.add_subplot()
    for curve in panel.curves:
        color = COLORS[curve.split]
        label = curve.split or "train"  # stages log training metrics without a prefix
        if len(curve.values) > DENSE:
            axes.plot(curve.steps, curve.values, color=color, alpha=0.28, linewidth=0.9)
            axes.plot(curve.steps, smoothed(curve.values), color=color, linewidth=1.9, label=label)
        else:
            marker = "o" if len(curve.values) <= 25 else ""
            axes.plot(
                curve.steps, curve.values, color=color, linewidth=1.9, label=label, marker=marker, markersize=3.2
            )
    style(axes, panel.title, "step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if len(panel.curves) > 1:
        legend(axes)


def draw_charts(charts: Sequence[Chart]) -> bytes:
    """PNG of overlaid charts, each with its own line style; they share the first one's axes."""
    return to_png(partial(_paint_charts, charts), 7.2, 3.4)


def _paint_charts(charts: Sequence[Chart], figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
    for chart, dashes in zip(charts, cycle(("-", "--", ":"))):
        for line, color in zip(chart.lines, cycle((BLUE, ORANGE, TEAL))):
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.14, linewidth=0)
            axes.plot(line.x, line.y, dashes, color=color, marker="o", markersize=3.6, label=line.label)
            axes.plot(line.x[line.circled], line.y[line.circled], "o", color=color, markersize=8.5, fillstyle="none")
    style(axes, charts[0].title, charts[0].x_label)
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    legend(axes)


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def smoothed(values: list[float]) -> list[float]:
    """Mean over a window around each point, narrower at both ends to stay centred."""
    half = max(1, round(len(values) * SMOOTHING_SHARE / 2))
    result = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        window = values[i - reach : i + reach + 1]
        result.append(sum(window) / len(window))
    return result
