"""python -m bench.open NAME, after `dvc repro`: README.md beside this file."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.pipeline.__main__ import measured, summary
from bench.results import ROOT, row, run_command, run_figures, write_result
from groundup.app.cli.plan import amount, measured_rates, predicted_seconds
from groundup.app.plan.memory import MB, rooms
from groundup.runner.device import resolve_device
from groundup.runner.launch.settings import read_launch
from groundup.runner.params import Params, load_params
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

    def add(name: str, seconds: Iterable[float], memory: Iterable[float]) -> None:
        lines.append(row(name, *(f"{it / 60:.1f}" for it in seconds), *(f"{it:,.0f}" for it in memory)))

    for stage, taken in stages.items():
        thought = plan[stage]
        memory = (taken["peak_memory_mb"], thought["peak_memory_mb"])
        add(stage, (taken["stage_seconds"], thought["seconds"]), memory)
    seconds = (sum(it["stage_seconds"] for it in stages.values()), sum(it["seconds"] for it in plan.values()))
    add("together", seconds, (max(it["peak_memory_mb"] for it in of.values()) for of in (stages, plan)))
    return "\n".join(lines) + "\n"


def open_params() -> Params:
    """ValueError unless they start from an open model."""
    params = load_params(ROOT / "params.yaml")
    if params.model.base is None:
        raise ValueError("model.base is null: this run starts from random weights")
    return params


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the folder beside this file: that of the preset, without `open-`")


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the figures of a finished run that started from an open model.")
    add_name(parser)
    name = parser.parse_args().name
    params = open_params()
    stages, plan = measured(ROOT), planned(ROOT, resolve_device(read_launch(ROOT)))
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
    run_command(main)
