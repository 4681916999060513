"""Experiments side by side as a picture: a panel for each figure in which they differ."""

from functools import partial

from matplotlib.figure import Figure

from groundup.app.compare.experiments import Comparison
from groundup.core.judging.plots import BLUE, INK, style, to_png

COLUMNS = 2
ROW, PANEL = 0.3, 1.0  # inches: height of an experiment, and of what is around them
NAMES, WIDTH = 1.6, 3.6  # inches: width of the names and of a panel
MAX_NAME = 24  # characters


def draw(comparison: Comparison) -> bytes:
    """PNG. A bar is the figure's 95 % interval."""
    rows = -(-len(comparison.figures) // COLUMNS)
    height = rows * (PANEL + ROW * len(comparison.experiments))
    return to_png(partial(_paint, comparison, rows), NAMES + COLUMNS * WIDTH, height)


def _paint(comparison: Comparison, rows: int, canvas: Figure) -> None:
    names = [it.name[:MAX_NAME] for it in comparison.experiments]
    for place, title in enumerate(comparison.figures):
        axes = canvas.add_subplot(rows, COLUMNS, place + 1)
        for row, experiment in enumerate(comparison.experiments):
            if figure := experiment.figures.get(title):
                if figure.interval:
                    axes.plot(figure.interval, (row, row), color=BLUE, alpha=0.45, linewidth=3.4)
                axes.plot(figure.value, row, "o", color=BLUE, markersize=6)
        style(axes, title, "")
        axes.grid(axis="x", color=INK, alpha=0.28, linewidth=0.7)
        axes.set_yticks(range(len(names)), names if place % COLUMNS == 0 else [])
        axes.set_ylim(len(names) - 0.5, -0.5)
