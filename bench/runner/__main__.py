"""python -m bench.runner, after `dvc repro`: README.md beside this file."""

import argparse
import ast
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.results import ROOT, ratios, row, spread, write_result
from groundup.runner.files import files_below, remove
from groundup.runner.pipeline import read_pipeline

HERE = Path(__file__).parent
IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|(\s+)(\S+)")
NUM_PACKAGES = 6  # named in the table
EVERYTHING = "everything"
TRACKING = ROOT / "src/groundup/runner/tracking"  # of the runner, what the delivering process imports
UP_TO_DATE = "Data and pipelines are up to date"
EMPTY = "from groundup.runner.stage import run_stage\n\nrun_stage('empty', lambda stage: {})\n"

logger = logging.getLogger(__name__)


def imports_of(script: Path) -> str:
    """A stage's import statements, those inside its main too."""
    return "\n".join(ast.unparse(node) for node in import_statements(script))


def import_statements(script: Path) -> list[ast.Import | ast.ImportFrom]:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports_of_everything() -> str:
    """What all stages and the delivering process import of other packages, in any branch."""
    code = {ROOT / dep for spec in read_pipeline(ROOT).values() for dep in spec.code} | {TRACKING}
    scripts = {file for path in code for file in files_below(path) if file.suffix == ".py"}
    statements = {ast.unparse(node) for script in scripts for node in import_statements(script)}
    return "\n".join(sorted(line for line in statements if line.split()[1].split(".")[0] != "groundup"))


def run(command: Sequence[str], folder: Path = ROOT) -> tuple[float, str]:
    """Seconds, and what was written to stdout and stderr."""
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return seconds, done.stdout


def environment() -> dict[str, str]:
    """This interpreter and this checkout first, as in a stage."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT / "src")}


def make_empty_checkout(folder: Path) -> None:
    """Its one stage reads and makes nothing."""
    (folder / "src").symlink_to(ROOT / "src")
    (folder / "empty.py").write_text(EMPTY, encoding="utf-8")
    (folder / "dvc.yaml").write_text("stages: {empty: {cmd: python empty.py}}", encoding="utf-8")
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")


def run_empty_stage(folder: Path) -> float:
    remove(folder / ".work")  # else its finished result is published again
    return run([sys.executable, "empty.py"], folder)[0]


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
    seconds = result["import_seconds"]
    lines = [row("stage", "imports, s", "of everything", "slowest packages, s"), "|---|---:|---:|---|"]
    for name, taken in seconds.items():
        packages = list(result["import_seconds_by_package"][name].items())[:NUM_PACKAGES]
        shown = ", ".join(f"{package} {own:.1f}" for package, own in packages)
        lines.append(row(name, spread(taken, 1), spread(ratios(taken, seconds[EVERYTHING]), 2), shown))
    lines += [
        "",
        f"A stage with nothing to do: {spread(result['empty_stage_seconds'], 2)} s.",
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
    imports[EVERYTHING] = imports_of_everything()
    run([sys.executable, "-c", "\n".join(imports.values())])  # the files are in memory afterwards
    seconds: dict[str, list[float]] = {name: [] for name in ("empty_stage", "interpreter", "dvc", "repro")}
    imported: dict[str, list[float]] = {name: [] for name in imports}
    with tempfile.TemporaryDirectory() as folder:
        make_empty_checkout(Path(folder))
        run_empty_stage(Path(folder))  # makes the MLflow store
        for turn in range(options.turns):
            seconds["empty_stage"].append(run_empty_stage(Path(folder)))
            seconds["interpreter"].append(run([sys.executable, "-c", ""])[0])
            seconds["dvc"].append(run(["dvc", "--version"])[0])
            seconds["repro"].append(run(["dvc", "repro"])[0])
            for name, statements in imports.items():
                imported[name].append(run([sys.executable, "-c", statements])[0])
            logger.info("turn %d of %d", turn + 1, options.turns)
    result = {
        "import_seconds": imported,
        "import_seconds_by_package": {name: seconds_by_package(lines) for name, lines in imports.items()},
        **{f"{name}_seconds": taken for name, taken in seconds.items()},
    }
    write_result(options.out, result, table(result))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
