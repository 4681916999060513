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

from bench.results import ROOT, ratios, row, spread, write_result
from groundup.runner.clock import present_runs
from groundup.runner.pipeline import read_pipeline

HERE = Path(__file__).parent
IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|(\s+)(\S+)")
NUM_PACKAGES = 6  # named in the table
NOW = ("imports now, s", "of everything", "end now, s", "slowest packages, s")
IMPORTED = re.compile(r"^imported at (\S+)$", re.MULTILINE)
EVERYTHING = "everything"
TRACKING = "src/groundup/runner/tracking"  # of the frame, what the delivering process imports
UP_TO_DATE = "Data and pipelines are up to date"

logger = logging.getLogger(__name__)


def of_last_run(stage: str) -> dict[str, float]:
    run = present_runs(ROOT)[stage]
    seconds = {name: float(run[f"{name}_seconds"]) for name in ("stage", "work", "import")}
    return seconds | {"frame": seconds["stage"] - seconds["work"] - seconds["import"]}


def imports_of(script: Path) -> str:
    """A stage's import statements, those inside its main too, as it executes them."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    first = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    later = [node for node in import_statements(tree) if node not in first]
    lines = [ast.unparse(node) for node in first]
    lines += ["from groundup.runner import collector", "with collector.importing():"]
    return "\n".join([*lines, *(f"    {ast.unparse(node)}" for node in later)])


def import_statements(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports_of_everything(root: Path) -> str:
    """What all stages and the delivering process import of other packages, in any branch, the plain way."""
    stages = {root / dep for spec in read_pipeline(root).values() for dep in spec.deps if dep.endswith(".py")}
    files = stages | set((root / TRACKING).glob("*.py"))
    nodes = [node for file in files for node in import_statements(ast.parse(file.read_text(encoding="utf-8")))]
    statements = {ast.unparse(node) for node in nodes}
    return "\n".join(sorted(line for line in statements if line.split()[1].split(".")[0] != "groundup"))


def seconds_to_import(imports: str) -> tuple[float, float]:
    """Until all is imported, and from there to the end of the process."""
    start = time.time()
    whole, output = run(
        [sys.executable, "-c", f"{imports}\nimport time; print('imported at', time.time(), flush=True)"]
    )
    found = IMPORTED.search(output)
    assert found
    imported = float(found[1]) - start
    return imported, whole - imported


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


def cells_of_now(result: dict[str, Any], name: str) -> list[str]:
    seconds = result["import_seconds"]
    packages = list(result["import_seconds_by_package"][name].items())[:NUM_PACKAGES]
    return [
        spread(seconds[name], 1),
        spread(ratios(seconds[name], seconds[EVERYTHING]), 2),
        spread(result["end_seconds"][name], 1),
        ", ".join(f"{package} {taken:.1f}" for package, taken in packages),
    ]


def table(result: dict[str, Any]) -> str:
    lines = [
        row("stage", "whole, s", "work, s", "imports, s", "frame, s", *NOW),
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for stage, seconds in result["last_run"].items():
        figures = (f"{seconds[name]:.1f}" for name in ("stage", "work", "import", "frame"))
        lines.append(row(stage, *figures, *cells_of_now(result, stage)))
    totals = [sum(seconds[name] for seconds in result["last_run"].values()) for name in ("stage", "work", "import")]
    frame = sum(seconds["frame"] for seconds in result["last_run"].values())
    lines.append(row("all", *(f"{total:.1f}" for total in totals), f"{frame:.1f}", *("" for _ in NOW)))
    lines.append(row(EVERYTHING, "", "", "", "", *cells_of_now(result, EVERYTHING)))
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
    stages = list(read_pipeline(ROOT))
    imports = {stage: imports_of(ROOT / f"stages/{stage}.py") for stage in stages}
    imports[EVERYTHING] = imports_of_everything(ROOT)
    run([sys.executable, "-c", "\n".join(imports.values())])  # the files are in memory afterwards
    seconds: dict[str, list[float]] = {name: [] for name in ("python", "dvc", "repro")}
    imported: dict[str, list[float]] = {name: [] for name in imports}
    ended: dict[str, list[float]] = {name: [] for name in imports}
    for turn in range(options.turns):
        seconds["python"].append(run([sys.executable, "-c", ""])[0])
        seconds["dvc"].append(run(["dvc", "--version"])[0])
        seconds["repro"].append(run(["dvc", "repro"])[0])
        for name, statements in imports.items():
            until_imported, to_the_end = seconds_to_import(statements)
            imported[name].append(until_imported)
            ended[name].append(to_the_end)
        logger.info("turn %d of %d", turn + 1, options.turns)
    result = {
        "last_run": {stage: of_last_run(stage) for stage in stages},
        "import_seconds": imported,
        "end_seconds": ended,
        "import_seconds_by_package": {name: seconds_by_package(lines) for name, lines in imports.items()},
        "interpreter_seconds": seconds["python"],
        "dvc_seconds": seconds["dvc"],
        "repro_seconds": seconds["repro"],
    }
    write_result(options.out, result, table(result))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
