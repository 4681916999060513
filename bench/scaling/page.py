"""Table and picture of a result."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.results import row
from bench.scaling.fit import Law
from groundup.core.judging.plots import BLUE, INK, ORANGE, TEAL, legend, style, to_png


def draw(cells: list[dict[str, Any]], law: Law, default_width: int) -> bytes:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        style(axes, "val bits per byte", "training FLOPs")
        for color, width in zip((BLUE, ORANGE, TEAL, INK), sorted({cell["width"] for cell in cells}), strict=True):
            of_width = [cell for cell in cells if cell["width"] == width]
            x, y = ([cell[key] for cell in of_width] for key in ("flops", "val_bits_per_byte"))
            label = f"width {width} (default)" if width == default_width else f"width {width}"
            axes.plot(x, y, "o-", color=color, markersize=4, label=label)
        flops = np.geomspace(min(c["flops"] for c in cells) / 1.2, max(c["flops"] for c in cells) * 2, 100)
        label = f"best size: {law.irreducible:.2f} + k C^-{law.exponent:.2f}"
        axes.plot(flops, law.frontier(flops), "--", color=INK, linewidth=1, label=label)
        axes.set_xscale("log")
        axes.minorticks_off()
        ticks = [cell["flops"] for cell in cells if cell["width"] == default_width]
        axes.set_xticks(ticks, [f"{tick:.1e}" for tick in ticks])
        legend(axes)

    return to_png(paint, 7, 4)


def table(result: dict[str, Any]) -> str:
    lines = [
        row("width", "parameters", "tokens", "epochs", "FLOPs", "val bits per byte", "fitted", "predicted"),
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        row(
            str(cell["width"]),
            f"{cell['num_parameters']:,}",
            f"{cell['num_tokens']:,}",
            f"{cell['num_epochs']:.2f}",
            f"{cell['flops']:.2e}",
            f"{cell['val_bits_per_byte']:.3f}",
            f"{cell['fitted']:.3f}",
            f"{cell['predicted']:.3f}" if "predicted" in cell else "",
        )
        for cell in result["cells"]
    ]
    law, default = result["law"], result["default"]
    lines += [
        "",
        "Predicted: by the law fitted to the smaller budgets alone.",
        "",
        f"L = {law['irreducible']:.3f} + {law['of_parameters']:.3g} N^-{law['alpha']:.3f} + {law['of_tokens']:.3g} "
        f"D^-{law['beta']:.3f}; root mean square residual {result['root_mean_square_residual']:.3f}. Along the best "
        f"sizes L falls as compute^-{law['compute_exponent']:.3f} towards {law['irreducible']:.3f}.",
        "",
        f"The default ({default['num_parameters']:,} parameters, {default['flops']:.2e} FLOPs) has "
        f"{default['val_bits_per_byte']:.3f}; the fitted best at that compute is "
        f"{result['frontier_at_default']:.3f}, with {result['best_parameters_at_default']:,.0f} parameters.",
    ]
    return "\n".join(lines) + "\n"
