"""What the benchmarks share: how a result is written down, and the figures of a run of the pipeline."""

import json
import logging
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from groundup.runner.files import read_object, write_json, write_text
from groundup.runner.pipeline import read_pipeline

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("base", "sft", "aligned")

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


def run_figures(root: Path, num_samples: int) -> dict[str, Any]:
    """Every figure of the run whose artifacts are here, by stage, and `samples`; ValueError if a file is missing."""
    files = {stage: root / f"{spec.report}/metrics.json" for stage, spec in read_pipeline(root).items()}
    replies = files["evaluate"].with_name("replies.jsonl")
    if missing := [path.relative_to(root).as_posix() for path in (*files.values(), replies) if not path.exists()]:
        raise ValueError(f"{', '.join(missing)} missing: run `dvc repro`")
    rows = map(json.loads, replies.read_text(encoding="utf-8").splitlines()[:num_samples])
    samples = [{"messages": row["messages"]} | {model: row[model]["text"] for model in MODELS} for row in rows]
    return {stage: read_object(path) for stage, path in files.items()} | {"samples": samples}


def run_command(main: Callable[[], None]) -> None:
    """As a command: progress on stderr, and a ValueError as its sentence."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
