"""Picture of the over-optimisation study: proxy and gold against KL."""

from collections.abc import Mapping
from functools import partial

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from groundup.core.judging.plots import BLUE, INK, ORANGE, legend, style, to_png
from groundup.evaluate.measures.overoptimization import Gain, Study

LINES = ("-", "--", ":")


def draw_studies(studies: Mapping[str, Study]) -> bytes:
    """PNG, the same bytes each time; by name, which is shown where there are several."""
    return to_png(partial(_paint, studies), 7.2, 3.4)


def _paint(studies: Mapping[str, Study], figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
    for (name, study), line in zip(studies.items(), LINES, strict=False):
        suffix = f", {name}" if len(studies) > 1 else ""
        kl = [point.kl for point in study.points]
        gains: list[tuple[str, str, list[Gain]]] = [
            ("reward model", BLUE, [point.proxy for point in study.points]),
            ("gold judge", ORANGE, [point.gold for point in study.points]),
        ]
        for label, color, series in gains:
            values = [gain.value for gain in series]
            axes.fill_between(
                kl, [g.low for g in series], [g.high for g in series], color=color, alpha=0.14, linewidth=0
            )
            axes.plot(kl, values, line, color=color, marker="o", markersize=3.6, label=label + suffix)
            kept = study.points.index(study.kept)
            axes.plot(kl[kept], values[kept], "o", color=color, markersize=8.5, fillstyle="none")
    style(axes, "Gain over the SFT model (standard deviations of its replies)", "KL to the SFT model (nats a reply)")
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    legend(axes)
