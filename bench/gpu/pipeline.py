"""The whole pipeline on the preset smoke, twice: every stage runs on the GPU, and what is the same the second time."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.gpu.machine import Machine
from bench.gpu.rows import Figures, Measurement
from bench.results import ROOT
from groundup.runner.files import read_yaml
from groundup.runner.params.presets import with_preset

LEFT_OUT = (
    *(".git", ".venv", ".work", ".*_cache", "__pycache__", "cache", "tmp", "*.db", "mlartifacts"),
    *("artifacts", "models", "exports", "metrics", "dvc.lock", "tests", "docs"),
)
DVC = [sys.executable, "-m", "dvc", "repro"]
TAIL = 400  # characters of what a failed run said last


def measurements(machine: Machine) -> Iterator[Measurement]:
    if machine.is_toy:
        return  # the tests of the project run it on a CPU
    with tempfile.TemporaryDirectory() as folder:
        found: list[dict[str, str]] = []
        yield Measurement(
            "preset smoke, every stage", "the stages on a CPU (bench/pipeline)", lambda: first(folder, found)
        )
        yield Measurement("the same again in another checkout", "the first run's outs", lambda: second(folder, found))


def first(folder: str, found: list[dict[str, str]]) -> Figures:
    start = time.monotonic()
    found.append(reproduced(Path(folder) / "first"))
    return {"seconds": time.monotonic() - start, "outs": len(found[0])}


def second(folder: str, found: list[dict[str, str]]) -> Figures:
    again = reproduced(Path(folder) / "second")
    changed = sorted(path for path, digest in found[0].items() if again[path] != digest)
    return {"outs": len(again), "the same": len(again) - len(changed), "others": " ".join(changed) or None}


def reproduced(checkout: Path) -> dict[str, str]:
    """The digest of every out of a run in a copy of this tree."""
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (checkout / "params.yaml").write_text(with_preset(ROOT, "smoke", {}).text, encoding="utf-8")
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for command in ([*git, "init", "-q"], [*git, "add", "-A"], [*git, "commit", "-q", "-m", "copy"], DVC):
        run(command, checkout)
    lock = read_yaml(checkout / "dvc.lock", "run it again")
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def run(command: list[str], checkout: Path) -> None:
    """RuntimeError with what it said last; the stage that runs ends with it, also where no time is left."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "PYTHONPATH"))
    }
    environment = kept | {
        "GROUNDUP_DEVICE": "cuda",
        "GROUNDUP_DETERMINISTIC": "true",
        "PATH": path,
        "PYTHONPATH": str(checkout / "src"),
    }
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[-2:])} failed: ...{said[-TAIL:]}")
