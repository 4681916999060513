"""python -m bench.frame, after `dvc repro`: README.md beside this file."""

import argparse
import ast
import logging
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.results import ROOT, row, spread, write_result
from groundup.frame.files import read_object
from groundup.frame.pipeline import read_pipeline

HERE = Path(__file__).parent
IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|(\s+)(\S+)")
NUM_PACKAGES = 6  # named in the table
UP_TO_DATE = "Data and pipelines are up to date"

logger = logging.getLogger(__name__)


def of_last_run(stage: str) -> dict[str, float]:
    record = read_object(ROOT / f"metrics/{stage}.json")
    seconds = {name: float(record[f"{name}_seconds"]) for name in ("stage", "work", "import")}
    return seconds | {"frame": seconds["stage"] - seconds["work"] - seconds["import"]}


def imports_of(script: Path) -> str:
    """All import statements of a stage, those inside its main too, as one line of Python."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    return "; ".join(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def run(command: Sequence[str]) -> tuple[float, str]:
    """Seconds, and what was written to stdout and stderr."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return seconds, done.stdout


def environment() -> dict[str, str]:
    """This interpreter and this checkout first, as in a stage."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT / "src")}


def seconds_by_package(imports: str) -> dict[str, float]:
    """Of `python -X importtime`, which makes imports slower: what each package's own modules took, most first."""
    _, output = run([sys.executable, "-X", "importtime", "-c", imports])
    own: Counter[str] = Counter()
    for microseconds, _, _, module in IMPORT_TIME.findall(output):
        own[module.split(".")[0]] += int(microseconds)
    return {package: microseconds / 1e6 for package, microseconds in own.most_common()}


def check_nothing_to_do() -> None:
    _, output = run(["dvc", "status"])
    if UP_TO_DATE not in output:
        raise ValueError(f"dvc repro has something to do, so its time would say nothing: run it first\n{output}")


def table(result: dict[str, Any]) -> str:
    lines = [
        row("stage", "whole, s", "work, s", "imports, s", "frame, s", "imports now, s", "slowest packages, s"),
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for stage, seconds in result["last_run"].items():
        packages = list(result["import_seconds_by_package"][stage].items())[:NUM_PACKAGES]
        lines.append(
            row(
                stage,
                *(f"{seconds[name]:.1f}" for name in ("stage", "work", "import", "frame")),
                spread(result["import_seconds"][stage], 1),
                ", ".join(f"{package} {taken:.1f}" for package, taken in packages),
            )
        )
    totals = [sum(seconds[name] for seconds in result["last_run"].values()) for name in ("stage", "work", "import")]
    frame = sum(seconds["frame"] for seconds in result["last_run"].values())
    lines.append(row("all", *(f"{total:.1f}" for total in totals), f"{frame:.1f}", "", ""))
    lines += [
        "",
        f"An empty interpreter: {spread(result['interpreter_seconds'], 2)} s, not taken off.",
        "",
        f"`dvc repro` with nothing to do: {spread(result['repro_seconds'], 2)} s.",
        f"`dvc --version`: {spread(result['dvc_seconds'], 2)} s.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    check_nothing_to_do()
    imports = {stage: imports_of(ROOT / f"stages/{stage}.py") for stage in read_pipeline(ROOT)}
    run([sys.executable, "-c", "; ".join(imports.values())])  # the files are in memory afterwards
    seconds: dict[str, list[float]] = {name: [] for name in ("python", "dvc", "repro", *imports)}
    for turn in range(options.turns):
        seconds["python"].append(run([sys.executable, "-c", ""])[0])
        seconds["dvc"].append(run(["dvc", "--version"])[0])
        seconds["repro"].append(run(["dvc", "repro"])[0])
        for stage, statements in imports.items():
            seconds[stage].append(run([sys.executable, "-c", statements])[0])
        logger.info("turn %d of %d", turn + 1, options.turns)
    result = {
        "last_run": {stage: of_last_run(stage) for stage in imports},
        "import_seconds": {stage: seconds[stage] for stage in imports},
        "import_seconds_by_package": {stage: seconds_by_package(line) for stage, line in imports.items()},
        "interpreter_seconds": seconds["python"],
        "dvc_seconds": seconds["dvc"],
        "repro_seconds": seconds["repro"],
    }
    write_result(options.out, result, table(result))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
