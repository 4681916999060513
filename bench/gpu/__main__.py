"""python -m bench.gpu: README.md beside this file."""

import argparse
import importlib
import logging
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before torch starts cuBLAS: deterministic only with it

import torch

from bench.gpu.machine import Machine
from bench.gpu.rows import Measurement, Rows, problem_of

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
# Modules beside this one, each with the seconds it may take; what one leaves serves the next ones.
PARTS = {
    "environment": 20,
    "attention": 25,
    "correctness": 25,
    "pretraining": 170,
    "repeatability": 40,
    "rollouts": 45,
    "ppo": 40,
    "reward": 15,
    "sft": 40,
    "evaluation": 15,
    "server": 15,
    "pipeline": 110,
}


def run(machine: Machine, rows: Rows, parts: list[str]) -> None:
    """A module that cannot be imported, or whose set-up fails, costs its own rows."""
    end = time.monotonic()
    for part in parts:
        end += PARTS[part]
        try:
            for measurement in importlib.import_module(f"bench.gpu.{part}").measurements(machine):
                machine.clean()
                take(part, measurement, rows, end - time.monotonic())
        except Exception as error:
            logger.exception("%s failed outside a measurement", part)
            rows.add(part, "this part, or what was left of it", "", {}, problem_of(error))


def take(part: str, measurement: Measurement, rows: Rows, seconds_left: float) -> None:
    if seconds_left <= 0:
        rows.add(part, measurement.what, measurement.compared_with, {}, "no time was left")
    else:
        rows.take(part, measurement, seconds_left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="small sizes, on the CPU: to see that every part runs")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    if not options.toy and not torch.cuda.is_available():
        parser.error("torch finds no GPU: choose --toy to run small sizes on the CPU")
    if options.toy:
        torch.set_num_threads(1)  # at these sizes more of them wait for each other
    warnings.filterwarnings("ignore")
    rows = Rows(options.out)
    run(Machine(torch.device("cpu" if options.toy else "cuda"), options.toy), rows, options.only)
    logger.info("\n%s", rows.table())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
