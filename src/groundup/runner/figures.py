"""A stage's figures, and where each is stored.

metrics/NAME.json, in git: the headline figures. `metrics.json` in the stage's report: all that a rerun reproduces.
MLflow and `.work`: everything, also times and memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.runner.files import read_object, write_json
from groundup.runner.nested import flatten

Figures = dict[str, Any]

REPORTED = "metrics.json"  # in the stage's report
OF_THIS_MACHINE = ("_seconds", "_per_second", "_mb")  # suffixes of figures that a rerun does not reproduce
INTERVAL = ("_ci_low", "_ci_high")  # they go with their figure, and count as part of it
FINGERPRINT = "fingerprint"
UNKNOWN = "unknown"


def numbers(figures: Figures) -> dict[str, float]:
    """The numbers of a nested dict under dotted names; text is left out."""
    leaves = flatten(figures).items()
    return {key: value for key, value in leaves if isinstance(value, int | float) and not isinstance(value, bool)}


def as_text(value: float) -> str:
    """As tables show it: three decimals, or two digits of what is smaller."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2g}"


def check_finite(stage: str, figures: Figures) -> None:
    """Raise ValueError if a figure is not finite: a divergence in the last step shows nowhere else."""
    if bad := [key for key, value in numbers(figures).items() if not math.isfinite(value)]:
        raise ValueError(
            f"{stage}: {', '.join(bad)} came out as NaN or infinite, so nothing is published; lower {stage}'s "
            "learning rate"
        )


def reproducible(figures: Figures) -> Figures:
    """The figures without times and memory."""
    return {
        key: reproducible(value) if isinstance(value, dict) else value
        for key, value in figures.items()
        if not key.endswith(OF_THIS_MACHINE)
    }


def of_this_machine(figures: Figures) -> dict[str, float]:
    """The times and memory, under dotted names."""
    return {key: value for key, value in numbers(figures).items() if key.endswith(OF_THIS_MACHINE)}


def choose(figures: Figures, names: Sequence[str]) -> Figures:
    """The named figures, each with its interval if it has one; names that were not measured are left out."""
    wanted = [name + end for name in names for end in ("", *INTERVAL)]
    return {name: figures[name] for name in wanted if name in figures}


@dataclass(frozen=True)
class Record:
    """What metrics/NAME.json holds about the current outputs."""

    fingerprint: str
    figures: Figures


def metrics_file(root: Path, stage: str) -> Path:
    return root / f"metrics/{stage}.json"


def write_record(root: Path, stage: str, record: Record) -> Path:
    """The fingerprint is stored in a list, because DVC leaves lists out of its tables; returns the file."""
    path = metrics_file(root, stage)
    write_json(path, record.figures | {FINGERPRINT: [record.fingerprint]})
    return path


def read_record(root: Path, stage: str) -> Record | None:
    """None before the stage's first run."""
    path = metrics_file(root, stage)
    if not path.exists():
        return None
    figures = read_object(path)
    match figures.pop(FINGERPRINT, None):
        case [str(fingerprint)]:
            return Record(fingerprint, figures)
    return Record(UNKNOWN, figures)
