"""Which stages `dvc repro` would run, in DVC's own terms. Looks, and changes nothing."""

from contextlib import chdir
from enum import StrEnum
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import _get_cache_hash
from dvc.stage.serialize import to_single_stage_lockfile

from groundup.runner.pipeline import StageSpec, upstream


class Fate(StrEnum):
    """What `dvc repro` does with a stage."""

    UNCHANGED = "unchanged"  # nothing
    CACHED = "cached"  # in the run cache: its outs come from DVC's cache
    RUNS = "runs"


def fates(root: Path, pipeline: dict[str, StageSpec]) -> dict[str, Fate]:
    """In pipeline order. A stage below one that runs counts as one that runs: its inputs are not known yet."""
    try:
        with chdir(root), Repo() as repo, repo.lock:  # DVC looks for dvc.yaml where it stands
            return _fates(repo, pipeline)
    except LockError as error:
        raise ValueError(f"DVC is at work in this checkout, so its state cannot be read: {error}") from None
    except DvcException as error:
        raise ValueError(f"DVC cannot say what would run: {error}") from None


def _fates(repo: Repo, pipeline: dict[str, StageSpec]) -> dict[str, Fate]:
    found: dict[str, Fate] = {}
    brought: dict[str, Any] = {}  # path -> the out that the run cache would bring back
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
                brought[out.def_path] = out
        assert name == spec.name
    return found


def _cached_entry(repo: Repo, stage: PipelineStage, brought: dict[str, Any]) -> PipelineStage | None:
    """The stage as an earlier run with the same inputs left it, if all that it wrote is still in the cache.

    StageCache.restore finds it in the same way, but hashes inputs on the disk, where some are still to be brought.
    """
    for dep in stage.deps:  # in memory: dvc.lock stays
        if dep.def_path in brought:
            dep.hash_info, dep.meta = brought[dep.def_path].hash_info, brought[dep.def_path].meta
        elif dep.exists:
            dep.save()
        else:
            return None
    cache = repo.stage_cache
    key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
    folder = Path(cache._get_cache_dir(key))
    names = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
    entry = cache._load_cache(key, names[-1].name) if names else None
    if entry is None:
        return None
    made = cache._create_stage(entry, wdir=stage.wdir)
    return made if made.outs_cached() else None
