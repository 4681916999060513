"""How the models came about: the stages, what each reads from, and what it took."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.core.training.cost import Cost, in_short
from groundup.runner.params.evaluate import EvaluateParams

ROW = 64  # height of a row in the picture's own units
STEP = 13  # how much further to the left an edge swings for every stage that it passes by
EDGE = 8  # where the dots are, from the right
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class MadeBy:
    """One stage of the lineage."""

    stage: str
    title: str
    notes: list[str]
    fingerprint: str  # of the weights it made; empty if none


@dataclass(frozen=True)
class Picture:
    """Edges as SVG paths; the rows of text stand to the right of it."""

    width: int
    height: int
    paths: list[str]


def lineage_rows(
    ancestry: Mapping[str, Sequence[str]],
    titles: Mapping[str, str],
    notes: Mapping[str, str],
    costs: Mapping[str, Cost],
    fingerprints: Mapping[str, str],
) -> list[MadeBy]:
    return [
        MadeBy(
            stage,
            titles.get(stage, stage),
            [*([notes[stage]] if stage in notes else []), *(cost_notes(costs[stage]) if stage in costs else [])],
            fingerprints.get(stage, ""),
        )
        for stage in ancestry
    ]


def cost_notes(cost: Cost) -> list[str]:
    read = [f"{in_short(cost.num_read_tokens)} only read"] * (cost.num_read_tokens > 0)
    return [
        f"{cost.num_parameters:,} parameters",
        f"{in_short(cost.num_learned_tokens)} tokens learned from",
        *read,
        f"{in_short(cost.flops)}FLOP",
    ]


def total_flops(costs: Mapping[str, Cost]) -> str:
    return f"{in_short(sum(cost.flops for cost in costs.values()))}FLOP"


def picture(ancestry: Mapping[str, Sequence[str]]) -> Picture:
    """An edge to the next row is straight; the others swing around the rows between."""
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


def watt_hours(seconds: float, params: EvaluateParams) -> float:
    return params.watts * seconds / SECONDS_PER_HOUR


def add_clock(page: Path, seconds: Mapping[str, float], params: EvaluateParams, out: Path) -> None:
    """Write a copy of the page with the minutes of each stage and an estimate of the energy.

    They stand where the template has left a mark; the page itself has none, for it is the same on every run.
    """

    def taken(time: float) -> str:
        return f"{time / 60:.1f} min, {watt_hours(time, params):.2g} Wh"

    def fill(mark: re.Match[str]) -> str:
        stage = mark.group(1)
        if stage is None:
            return f"Together {taken(sum(seconds.values()))}, if the machine takes {params.watts:g} W."
        return f", {taken(seconds[stage])}" if stage in seconds else ""

    timed = re.sub(r"<!-- clock(?: (\w+))? -->", fill, page.read_text(encoding="utf-8"))
    out.write_text(timed, encoding="utf-8", newline="\n")
