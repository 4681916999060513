"""The lineage of the models: the stages, what each reads, and their cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from groundup.core.training.cost import Cost, in_short

ROW = 64  # height of a row in the picture's units
STEP = 13  # how much further left an edge bends per stage that it passes
EDGE = 8  # distance of the dots from the right
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Picture:
    """Edges as SVG paths; the rows of text are to the right of it."""

    width: int
    height: int
    paths: list[str]


def cost_notes(cost: Cost | None) -> list[str]:
    if cost is None:
        return []
    read = [f"{in_short(cost.num_read_tokens)} only read"] * (cost.num_read_tokens > 0)
    return [
        f"{cost.num_parameters:,} parameters",
        f"{in_short(cost.num_learned_tokens)} tokens learned from",
        *read,
        f"{in_short(cost.flops)}FLOP",
    ]


def time_note(seconds: float, watts: float) -> str:
    """Minutes, and an estimate of the energy."""
    return f"{seconds / 60:.1f} min, {watts * seconds / SECONDS_PER_HOUR:.2g} Wh"


def picture(ancestry: Mapping[str, Sequence[str]]) -> Picture:
    """An edge to the next row is straight; the others bend around the rows between."""
    place = {stage: row for row, stage in enumerate(ancestry)}
    edges = [(place[parent], row) for stage, row in place.items() for parent in ancestry[stage]]
    longest = max((row - parent for parent, row in edges), default=1)
    width = STEP * longest + 2 * EDGE
    x = width - EDGE
    paths = []
    for parent, row in edges:
        start, end = (ROW * (place + 0.5) for place in (parent, row))
        left = x - (0 if row - parent == 1 else 4 / 3 * STEP * (row - parent))
        paths.append(f"M{x} {start:g}C{left:.4g} {start:g} {left:.4g} {end:g} {x} {end:g}")
    return Picture(width, ROW * len(place), paths)
