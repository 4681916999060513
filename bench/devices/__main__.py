"""python -m bench.devices, after `dvc repro`: README.md beside this file."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from bench.results import ROOT, ratios, row, run_command, spread, write_result
from groundup.runner.environment import TIMEOUT, TORCHRUN_LOGS
from groundup.runner.launch.jobs import PYTHON
from groundup.runner.params import load_params

HERE = Path(__file__).parent
WARM_UP = 5  # steps


class Side(NamedTuple):
    processes: int
    strategy: str


SIDES = {
    "one process": Side(1, "ddp"),
    "two, DDP": Side(2, "ddp"),
    "two, FSDP2": Side(2, "fsdp2"),
}


def turn(side: Side, num_steps: int) -> tuple[float, int]:
    """(median seconds of a step, its tokens)."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "times.json"
        command = [
            *(PYTHON, "-m", "groundup.runner.launch.torchrun", "--standalone"),
            *("--nproc-per-node", str(side.processes)),
            *("-m", "bench.devices.train", str(out), side.strategy, str(num_steps + WARM_UP + 1)),
        ]
        environment = os.environ | {TIMEOUT: "300", TORCHRUN_LOGS: "CRITICAL"}
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            sys.exit("a process failed: see above")
        found = json.loads(out.read_text())
    return statistics.median(b - a for a, b in pairwise(found["ends"][WARM_UP:])), found["tokens_per_step"]


def table(result: dict[str, Any]) -> str:
    lines = [
        row("processes", "threads of each", "tokens a second", "times one process", "milliseconds a step"),
        "|---|---:|---:|---:|---:|",
    ]
    for name, side in SIDES.items():
        of = result["sides"][name]
        cells = (spread(of["tokens_per_second"], 0), spread(of["times_one_process"], 2), spread(of["milliseconds"], 0))
        lines.append(row(name, str(result["num_threads"] // side.processes), *cells))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a pretraining step of one process with one of two.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of a turn")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    tokens = 0
    for _ in range(options.turns):
        for name, side in SIDES.items():
            taken, tokens = turn(side, options.steps)
            seconds[name].append(taken)
    speeds = {name: [tokens / taken for taken in of] for name, of in seconds.items()}
    sides = {
        name: {
            "tokens_per_second": speeds[name],
            "times_one_process": ratios(speeds[name], speeds["one process"]),
            "milliseconds": [1000 * taken for taken in of],
        }
        for name, of in seconds.items()
    }
    num_threads = load_params(ROOT / "params.yaml").runtime.num_threads  # of all processes together
    result = {"num_threads": num_threads, "steps": options.steps, "sides": sides}
    write_result(HERE, result, table(result))


if __name__ == "__main__":
    run_command(main)
