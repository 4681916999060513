"""python -m bench.open NAME, after `dvc repro`: README.md beside this file."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from bench.pipeline.__main__ import measured, summary
from bench.results import ROOT, row, run_figures, write_result
from groundup.app.cli.plan import amount, measured_rates, predicted_seconds
from groundup.app.plan.memory import MB, rooms
from groundup.runner.device import resolve_device
from groundup.runner.params import load_params
from groundup.runner.pipeline import read_pipeline

HERE = Path(__file__).parent
NUM_SAMPLES = 10


def planned(root: Path, device: str) -> dict[str, dict[str, float]]:
    """Minutes and memory of each stage as `groundup plan` predicts them, with the data that prepare has written."""
    params, pipeline = load_params(root / "params.yaml"), read_pipeline(root)
    data, work = amount(root, params, prepare_runs=False)
    seconds = predicted_seconds(params, data, work, measured_rates(root, params, data, work, device, False), pipeline)
    memory = {stage: (it.host + it.device) / MB for stage, it in rooms(params, data, work, device).items()}
    return {
        stage: {"seconds": round(seconds[stage], 1), "peak_memory_mb": round(memory[stage], 1)} for stage in pipeline
    }


def table(stages: dict[str, dict[str, float]], plan: dict[str, dict[str, float]]) -> str:
    lines = [row("stage", "minutes", "planned", "peak memory, MB", "planned"), "|---|---:|---:|---:|---:|"]
    sums = {"stage_seconds": 0.0, "seconds": 0.0}
    for stage, run in stages.items():
        taken, thought = run["stage_seconds"], plan[stage]["seconds"]
        memory = (f"{of[stage]['peak_memory_mb']:,.0f}" for of in (stages, plan))
        lines.append(row(stage, f"{taken / 60:.1f}", f"{thought / 60:.1f}", *memory))
        sums["stage_seconds"] += taken
        sums["seconds"] += thought
    peaks = (f"{max(it['peak_memory_mb'] for it in of.values()):,.0f}" for of in (stages, plan))
    lines.append(row("together", *(f"{seconds / 60:.1f}" for seconds in sums.values()), *peaks))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the figures of a finished run that started from an open model.")
    parser.add_argument("name", help="of the folder beside this file: that of the preset, without `open-`")
    name = parser.parse_args().name
    params = load_params(ROOT / "params.yaml")
    if params.model.base is None:
        raise ValueError("model.base is null: this run starts from random weights")
    stages, plan = measured(ROOT), planned(ROOT, resolve_device(ROOT))
    result: dict[str, Any] = {
        "base": params.model.base,
        "precision": params.runtime.precision,
        "together": summary(stages),
        "stages": stages,
        "planned": plan,
        "figures": run_figures(ROOT, NUM_SAMPLES),
    }
    write_result(HERE / name, result, table(stages, plan))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
