"""What the benchmarks share: how a result is written down."""

import logging
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundup.runner.files import write_json, write_text

ROOT = Path(__file__).resolve().parents[1]

logger = logging.getLogger(__name__)


def machine() -> dict[str, Any]:
    return {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}


def spread(values: Sequence[float], digits: int) -> str:
    """Median (least to greatest)."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def ratios(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Turn by turn: neighbouring turns see the same machine."""
    return [value / base for value, base in zip(values, baseline, strict=True)]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def write_result(folder: Path, result: dict[str, Any], table: str) -> None:
    """result.json and result.md."""
    write_json(folder / "result.json", {"machine": machine(), **result})
    write_text(folder / "result.md", table)
    logger.info("\n%s", table)
