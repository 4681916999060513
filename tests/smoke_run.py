"""`dvc repro` on the smoke preset, stage by stage, with a copy of the tree before each and after the last."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

AUDIT = Path(__file__).parent / "audit"
STAGES = ("prepare", "tokenizer", "pretrain", "sft", "reward", "align", "evaluate")
POOL = "MLFLOW_SQLALCHEMYSTORE_POOLCLASS"
OUR_VARIABLES = ("MLFLOW_TRACKING_URI", "PYTHONPATH", "DVC_ROOT", "DVC_STAGE", POOL)
# A restored checkout has another mlflow.db under the same name: keep no connection to the last one here.
os.environ[POOL] = "NullPool"


def environment(**extra: str) -> dict[str, str]:
    """Without variables that would lead a copy to another checkout or store."""
    kept = {name: value for name, value in os.environ.items() if name not in OUR_VARIABLES}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"GROUNDUP_DEVICE": "cpu", "PATH": path, "DVC_NO_ANALYTICS": "1"} | extra


def audit(log: Path) -> dict[str, str]:
    """Variables that make every process log its file accesses in `log`."""
    return {"GROUNDUP_AUDIT_LOG": str(log), "PYTHONPATH": str(AUDIT)}


def dvc(root: Path, *arguments: str, **extra: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    result = subprocess.run(command, cwd=root, env=environment(**extra), capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    return result.stdout + result.stderr


@dataclass(frozen=True)
class SmokeRun:
    """A checkout in `root`, with its file accesses in `log`; copies of `root` before each stage and after the last."""

    folder: Path

    def __post_init__(self) -> None:
        # Stages run in another directory, where a relative path would name another place.
        object.__setattr__(self, "folder", self.folder.resolve())

    @property
    def root(self) -> Path:
        return self.folder / "copy"

    @property
    def log(self) -> Path:
        return self.folder / "audit.tsv"

    @property
    def after(self) -> Path:
        return self.folder / "after"

    def before(self, stage: str) -> Path:
        return self.folder / f"before-{stage}"

    def restore(self, snapshot: Path) -> None:
        """Restore `root` to that moment: same path, same modification times."""
        shutil.rmtree(self.root)
        shutil.copytree(snapshot, self.root, symlinks=True)


def run_stages(run: SmokeRun, **extra: str) -> SmokeRun:
    """In `run.root`, a copy of the working tree; extra: variables."""
    for stage in STAGES:
        shutil.copytree(run.root, run.before(stage), symlinks=True)
        dvc(run.root, "repro", stage, **audit(run.log), **extra)
    shutil.copytree(run.root, run.after, symlinks=True)
    return run
