"""Which stages `dvc repro` would run, in DVC's own terms. Looks, and changes nothing."""

from enum import StrEnum
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError

from groundup.frame.pipeline import StageSpec, upstream


class Fate(StrEnum):
    """What `dvc repro` does with a stage."""

    UNCHANGED = "unchanged"  # nothing
    CACHED = "in the run cache"  # its outs come from DVC's cache
    RUNS = "runs"


def fates(root: Path, pipeline: dict[str, StageSpec]) -> dict[str, Fate]:
    """In pipeline order. A stage below one that runs counts as one that runs: its inputs are not known yet."""
    try:
        with Repo(str(root)) as repo, repo.lock:
            return _fates(repo, pipeline)
    except LockError as error:
        raise ValueError(f"DVC is at work in this checkout, so its state cannot be read: {error}") from None
    except DvcException as error:
        raise ValueError(f"DVC cannot say what would run: {error}") from None


def _fates(repo: Repo, pipeline: dict[str, StageSpec]) -> dict[str, Fate]:
    found: dict[str, Fate] = {}
    brought: dict[str, Any] = {}  # path -> hash of outs that the run cache would bring back
    for name, spec in pipeline.items():
        before = [found[parent] for parent in upstream(pipeline, name)]
        stage = repo.stage.load_one("dvc.yaml", name)
        if Fate.RUNS in before:
            found[name] = Fate.RUNS
        elif Fate.CACHED not in before and not stage.status():
            found[name] = Fate.UNCHANGED
        else:
            entry = _cached_entry(repo, stage, brought)
            found[name] = Fate.RUNS if entry is None else Fate.CACHED
            for out in [] if entry is None else entry.outs:
                brought[out.def_path] = out.hash_info
        assert name == spec.name
    return found


def _cached_entry(repo: Repo, stage: PipelineStage, brought: dict[str, Any]) -> PipelineStage | None:
    """The stage as an earlier run with the same inputs left it, if all that it wrote is still in the cache."""
    stage.save_deps(allow_missing=True)  # in memory: dvc.lock stays
    for dep in stage.deps:
        if dep.def_path in brought:
            dep.hash_info = brought[dep.def_path]
    cache = repo.stage_cache
    try:
        if any(not dep.hash_info for dep in stage.deps):
            return None
        entry = cache._load(stage)
    except RunCacheNotFoundError:
        return None
    if entry is None:
        return None
    made = cache._create_stage(entry, wdir=stage.wdir)
    return made if made.outs_cached() else None
