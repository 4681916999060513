"""dvc.yaml and dvc.lock: what each stage declares, who produces a path, what DVC has recorded and would run."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.runner.files import read_yaml


class PipelineError(ValueError):
    """dvc.yaml does not fit the runner, or a stage was started the wrong way."""


@dataclass(frozen=True)
class StageSpec:
    """One stage of dvc.yaml. Paths are POSIX strings relative to the repository.

    title is its `desc`; shown is `meta.show`: the headline figures for tables that hold all stages; spreads is
    `meta.spreads`: the strategies by which its body may run in several processes.
    """

    name: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    metrics: tuple[str, ...]
    plots: tuple[str, ...]
    title: str = ""
    shown: tuple[str, ...] = ()
    spreads: tuple[str, ...] = ()

    @property
    def code(self) -> tuple[str, ...]:
        return tuple(dep for dep in self.deps if dep.startswith(("src/", "stages/")))

    @property
    def report(self) -> str | None:
        """The report among the outs, of which MLflow gets a copy."""
        return next((out for out in self.outs if out.startswith("artifacts/report")), None)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dep for dep in self.deps if dep not in self.code)


RESTORE = "`git checkout HEAD -- dvc.yaml` restores the committed one"
FORGET = "`git checkout HEAD -- dvc.lock` restores the committed one, and `dvc repro` brings it up to date"


def read_pipeline(root: Path) -> dict[str, StageSpec]:
    """Stages in the order of dvc.yaml."""
    path = root / "dvc.yaml"
    if not path.is_file():
        raise PipelineError(f"{path} is missing: start a stage from the repository root, as `dvc repro` does")
    pipeline = read_yaml(path, RESTORE)
    stages = pipeline.get("stages") if isinstance(pipeline, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise PipelineError(f"{path} has no mapping `stages`; {RESTORE}")
    return {
        name: StageSpec(
            name=name,
            deps=_paths(stage.get("deps")),
            params=_paths(stage.get("params")),
            outs=_paths(stage.get("outs")),
            metrics=_paths(stage.get("metrics")),
            plots=_paths(stage.get("plots")),
            title=stage.get("desc") or name,
            shown=tuple((stage.get("meta") or {}).get("show") or ()),
            spreads=tuple((stage.get("meta") or {}).get("spreads") or ()),
        )
        for name, stage in stages.items()
    }


def _paths(entries: list[Any] | None) -> tuple[str, ...]:
    """Entries are paths or one-key mappings of a path to its options."""
    return tuple(entry if isinstance(entry, str) else next(iter(entry)) for entry in entries or [])


def lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def producer(pipeline: dict[str, StageSpec], path: str) -> str | None:
    """The stage whose out holds `path`; None for a source."""
    for stage in pipeline.values():
        if any(lies_in(path, out) for out in (*stage.outs, *stage.metrics, *stage.plots)):
            return stage.name
    return None


def upstream(pipeline: dict[str, StageSpec], stage: str) -> list[str]:
    """The stages that `stage` reads from, in pipeline order."""
    producers = {producer(pipeline, path) for path in pipeline[stage].inputs}
    return [name for name in pipeline if name in producers]


def ancestry(pipeline: dict[str, StageSpec], stage: str) -> dict[str, list[str]]:
    """`stage` and all stages upstream of it, in pipeline order, each with the stages that it reads from."""
    found: dict[str, list[str]] = {}
    queue = [stage]
    while queue:
        name = queue.pop()
        if name not in found:
            found[name] = upstream(pipeline, name)
            queue += found[name]
    return {name: found[name] for name in pipeline if name in found}


def stages_to_run(root: Path, pipeline: dict[str, StageSpec]) -> set[str]:
    """What `dvc repro` would run, unless DVC's run cache has its result: stages that changed and all below them."""
    changed = dvc_json(root, "status").keys()
    return {name for name in pipeline if ancestry(pipeline, name).keys() & changed}


def dvc_json(root: Path, *command: str) -> Any:
    """What a command of DVC prints with --json; PipelineError, with DVC's words, if it fails."""
    ran = subprocess.run(
        [sys.executable, "-m", "dvc", *command, "--json"], cwd=root, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise PipelineError(f"`dvc {' '.join(command)} --json` failed: {ran.stderr.strip()}")
    return json.loads(ran.stdout)


@dataclass(frozen=True)
class Recorded:
    """What dvc.lock holds for a stage: path -> md5, and its params by dotted key."""

    outs: dict[str, str]
    deps: dict[str, str]
    params: dict[str, Any]


def recorded_stage(root: Path, stage: str) -> Recorded:
    """All fields are empty before the stage's first success."""
    path = root / "dvc.lock"
    lock = (read_yaml(path, FORGET) if path.is_file() else None) or {}
    if not isinstance(lock, dict) or not isinstance(lock.get("stages", {}), dict):
        raise PipelineError(f"{path} has no mapping `stages`; {FORGET}")
    entry = lock.get("stages", {}).get(stage, {})
    return Recorded(
        outs={out["path"]: out["md5"] for out in entry.get("outs", []) if "md5" in out},
        deps={dep["path"]: dep["md5"] for dep in entry.get("deps", []) if "md5" in dep},
        params=entry.get("params", {}).get("params.yaml", {}),
    )
