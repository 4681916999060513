"""python -m bench.pipeline, after `dvc repro`: README.md beside this file."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.results import ROOT, row, run_command, write_result
from groundup.runner.clock import RUN_ID, present_runs
from groundup.runner.params import load_params
from groundup.runner.pipeline import read_pipeline

HERE = Path(__file__).parent
COLUMNS = ("stage_seconds", "peak_memory_mb")


def measured(root: Path) -> dict[str, dict[str, float]]:
    """What each present result took; ValueError if one was made elsewhere."""
    runs = present_runs(root)
    if missing := [stage for stage in read_pipeline(root) if stage not in runs]:
        raise ValueError(
            f"this machine has not run {', '.join(missing)} as they are now: `python -m bench.pipeline --run`"
        )
    return {stage: {key: value for key, value in run.items() if key != RUN_ID} for stage, run in runs.items()}


def summary(stages: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        "seconds": round(sum(run["stage_seconds"] for run in stages.values()), 1),
        "peak_memory_mb": max(run["peak_memory_mb"] for run in stages.values()),
    }


def table(stages: dict[str, dict[str, float]]) -> str:
    together = summary(stages)
    lines = [row("stage", "seconds", "peak memory, MB"), "|---|---:|---:|"]
    lines += [row(stage, *(f"{run[column]:,.1f}" for column in COLUMNS)) for stage, run in stages.items()]
    lines.append(row("together", f"{together['seconds']:,.1f}", f"{together['peak_memory_mb']:,.1f}"))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of each stage of `dvc repro`.")
    parser.add_argument("--run", action="store_true", help="run every stage first (`dvc repro --force`)")
    if parser.parse_args().run:
        subprocess.run([sys.executable, "-m", "dvc", "repro", "--force"], cwd=ROOT, check=True)
    stages = measured(ROOT)
    params = load_params(ROOT / "params.yaml")
    result: dict[str, Any] = {"precision": params.runtime.precision, "together": summary(stages), "stages": stages}
    write_result(HERE, result, table(stages))


if __name__ == "__main__":
    run_command(main)
