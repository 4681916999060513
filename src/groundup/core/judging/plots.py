"""The style of all plots: legible on white and on black, reproducible to the byte."""

import io
from collections.abc import Callable

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Legible on white and on black, because the plots are transparent.
INK, GRID = "#767d88", "#8a919c"
BLUE, ORANGE, TEAL = "#3b82f6", "#e8713c", "#14a38b"


def to_png(paint: Callable[[Figure], None], width: float, height: float) -> bytes:
    """PNG of what `paint` draws on an empty figure of that size in inches."""
    # The user's matplotlibrc must not change the bytes.
    with mpl.rc_context({key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}):
        figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
        figure.patch.set_alpha(0)
        paint(figure)
        FigureCanvasAgg(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def style(axes: Axes, title: str, x_label: str) -> None:
    axes.patch.set_alpha(0)
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, fontweight="bold", pad=8)
    axes.set_xlabel(x_label, fontsize=9, color=INK, loc="right", labelpad=1)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.grid(axis="y", color=GRID, alpha=0.28, linewidth=0.7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, handlelength=2.4)
