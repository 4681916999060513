"""Experiments side by side as a picture: a panel for each figure in which they differ."""

from functools import partial

from matplotlib.figure import Figure

from groundup.app.compare.experiments import Experiments
from groundup.core.judging.plots import BLUE, INK, style, to_png

COLUMNS = 2
ROW, PANEL = 0.3, 1.0  # inches: height of an experiment, and of what is around them
NAMES, WIDTH = 1.6, 3.6  # inches: width of the names and of a panel


def draw(experiments: Experiments) -> bytes:
    """PNG. A bar is the figure's 95 % interval."""
    rows = -(-len(experiments.figures) // COLUMNS)
    height = rows * (PANEL + ROW * len(experiments.finished))
    return to_png(partial(_paint, experiments, rows), NAMES + COLUMNS * WIDTH, height)


def _paint(experiments: Experiments, rows: int, canvas: Figure) -> None:
    names = [it.name for it in experiments.finished]
    for place, title in enumerate(experiments.figures):
        axes = canvas.add_subplot(rows, COLUMNS, place + 1)
        for row, experiment in enumerate(experiments.finished):
            if measured := experiment.figures.get(title):
                if measured.interval:
                    axes.plot(measured.interval, (row, row), color=BLUE, alpha=0.45, linewidth=3.4)
                axes.plot(measured.value, row, "o", color=BLUE, markersize=6)
        style(axes, title, "")
        axes.grid(axis="x", color=INK, alpha=0.28, linewidth=0.7)
        axes.set_yticks(range(len(names)), names if place % COLUMNS == 0 else [])
        axes.set_ylim(len(names) - 0.5, -0.5)
