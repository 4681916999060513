"""Compare the methods of alignment: python -m bench.compare_alignment [--method M] [--seed S] [--work DIR]

Without --method and --seed: trains every cell that is not finished, then scores all of them once and writes
result.json, result.md and result.png beside this file.
"""

import argparse
import logging
from pathlib import Path

from bench.compare_alignment.cells import Cells
from bench.compare_alignment.page import METHODS, draw_plot, page
from bench.compare_alignment.score import score
from bench.results import write_result
from groundup.runner.params import load_params

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, help="train the cells of this one alone")
    parser.add_argument("--seed", type=int, help="train the cells of this one alone, from 0")
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / ".compare-alignment", help="keeps finished cells")
    parser.add_argument("--threads", type=int, help="instead of runtime.num_threads")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    params = load_params(ROOT / "params.yaml")
    if arguments.threads is not None:
        params = params.model_copy(
            update={"runtime": params.runtime.model_copy(update={"num_threads": arguments.threads})}
        )
    cells = Cells(
        artifacts=ROOT / "artifacts",
        work=arguments.work,
        params=params,
        num_seeds=arguments.num_seeds,
        device=arguments.device,
    )
    cells.check_setting()
    for seed in cells.seeds if arguments.seed is None else [arguments.seed]:
        for method in METHODS if arguments.method is None else [arguments.method]:
            cells.train_policy(method, seed)
    if arguments.method is None and arguments.seed is None:
        result = score(cells)
        write_result(HERE, result, page(result))
        draw_plot(result, HERE / "result.png")


if __name__ == "__main__":
    main()
