"""Pictures of the curves that the stages logged, one PNG a measure."""

import base64
import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MAX_PANELS = 6  # a stage; MLflow shows the rest
SMOOTHING_SHARE = 1 / 30  # of the points: what a dense, noisy curve is averaged over
DENSE = 60  # points from which a curve is smoothed

# Measures worth a picture, the most telling first; other columns follow in the order of the file.
TITLES = {
    "loss": "Loss",
    "bits_per_byte": "Bits per byte",
    "accuracy": "Accuracy",
    "reward": "Reward",
    "kl": "KL to the SFT model (nats a reply)",
    "kl_to_reference": "KL to the SFT model (nats a reply)",
    "kl_coefficient": "KL coefficient",
    "entropy": "Entropy (nats a token)",
    "explained_variance": "Explained variance of the value model",
    "reply_length": "Length of a reply (tokens)",
    "end_of_turn_rate": "Replies that end by themselves",
    "length_coefficient": "Length coefficient",
}
# Legible on white and on black, for the pictures are transparent.
INK, GRID = "#767d88", "#8a919c"
COLORS = {"train": "#3b82f6", "val": "#e8713c", "heldout": "#14a38b", "": "#3b82f6"}


@dataclass(frozen=True)
class Curve:
    split: str  # train, val, heldout, or empty where the file does not say
    steps: list[float]
    values: list[float]


@dataclass(frozen=True)
class Panel:
    stage: str
    measure: str
    title: str
    curves: list[Curve]

    @property
    def file_name(self) -> str:
        return f"{self.stage}_{self.measure}.png"


def read_columns(path: Path) -> dict[str, list[float]]:
    """Column -> values, NaN where a metric was not measured; ValueError names the line that is no row of numbers."""
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


def read_panels(stage: str, path: Path) -> list[Panel]:
    """The panels of one stage: columns x, train_x, val_x and heldout_x share one."""
    columns = read_columns(path)
    by_measure: dict[str, list[Curve]] = {}
    for column in columns:
        if column in ("step", "epoch") or "learning_rate" in column:  # what was set says nothing of what came out
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
        Panel(stage, measure, TITLES.get(measure, measure.replace("_", " ").capitalize()), by_measure[measure])
        for measure in ranked[:MAX_PANELS]
    ]


def draw_panels(curves: Mapping[str, Path]) -> list[tuple[Panel, bytes]]:
    """Every panel with its PNG, the same bytes each time."""
    # A matplotlibrc of the user's must not change the bytes.
    with mpl.rc_context({key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}):
        return [(panel, _png(panel)) for stage, path in curves.items() for panel in read_panels(stage, path)]


def _png(panel: Panel) -> bytes:
    figure = Figure(figsize=(4.4, 2.6), dpi=160, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for curve in panel.curves:
        color = COLORS[curve.split]
        label = curve.split or "train"  # stages log what they train on without a prefix
        if len(curve.values) > DENSE:
            axes.plot(curve.steps, curve.values, color=color, alpha=0.28, linewidth=0.9)
            axes.plot(curve.steps, smoothed(curve.values), color=color, linewidth=1.9, label=label)
        else:
            marker = "o" if len(curve.values) <= 25 else ""
            axes.plot(
                curve.steps, curve.values, color=color, linewidth=1.9, label=label, marker=marker, markersize=3.2
            )
    axes.set_title(panel.title, loc="left", fontsize=10.5, color=INK, fontweight="bold", pad=8)
    axes.set_xlabel("step", fontsize=9, color=INK, loc="right", labelpad=1)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", color=GRID, alpha=0.28, linewidth=0.7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    if len(panel.curves) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def smoothed(values: list[float]) -> list[float]:
    """Mean over a window around each point, narrower at both ends so that it stays centred."""
    half = max(1, round(len(values) * SMOOTHING_SHARE / 2))
    result = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        window = values[i - reach : i + reach + 1]
        result.append(sum(window) / len(window))
    return result
