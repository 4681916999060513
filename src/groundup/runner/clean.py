"""Find and remove work dirs that are no longer needed."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from groundup.runner.base import BaseError
from groundup.runner.environment import DEVICES, main_root
from groundup.runner.files import files_below, remove
from groundup.runner.fingerprint import Fingerprint, take_fingerprint
from groundup.runner.lock import locked
from groundup.runner.params import load_params
from groundup.runner.params.selection import select
from groundup.runner.pipeline import PipelineError, StageSpec, read_pipeline
from groundup.runner.tracking.spool import is_delivered
from groundup.runner.workdir import UNDELIVERED, is_recorded


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a work dir is removed, and why."""

    work: Path
    num_bytes: int
    stale: bool  # removed unless this is a dry run
    reason: str


def clean(root: Path, undelivered: bool, dry_run: bool) -> Iterator[Verdict]:
    """Judge every work dir and remove the stale ones; `undelivered` includes those whose run is not in MLflow yet."""
    pipeline = read_pipeline(root)
    for folder in sorted(path for path in (main_root(root) / ".work").glob("*") if path.is_dir()):
        works = sorted(path for path in folder.iterdir() if path.is_dir())
        spec = pipeline.get(folder.name)
        present = _present(root, spec) if spec and works else None
        for work in works:
            num_bytes = sum(file.lstat().st_size for file in files_below(work))
            stale, reason = _judge(root, spec, work, present)
            if stale and not undelivered and not is_delivered(work):
                stale = False
                reason += ", but its run is not in MLflow yet: `groundup deliver` sends it, --undelivered discards it"
            if stale and not dry_run:
                try:
                    _remove(work)
                except PipelineError as error:
                    stale, reason = False, str(error)
            yield Verdict(work, num_bytes, stale, reason)


def _present(root: Path, spec: StageSpec) -> dict[str, Fingerprint] | None:
    """Fingerprints of the current inputs on each device, by name of the work dir; None if an input is missing."""
    params = select(load_params(root / "params.yaml"), spec.params)
    try:
        fingerprint = take_fingerprint(root, spec, params, DEVICES[0])
    except (FileNotFoundError, BaseError):
        return None
    prints = [dataclasses.replace(fingerprint, device=device) for device in DEVICES]
    return {fingerprint.value: fingerprint for fingerprint in prints}


def _judge(root: Path, spec: StageSpec | None, work: Path, present: dict[str, Fingerprint] | None) -> tuple[bool, str]:
    """(stale, why or why not)"""
    name = work.parent.name
    if spec is None:
        return True, f"dvc.yaml has no stage {name}"
    if is_recorded(root, spec, work, (present or {}).get(work.name)):
        return True, "dvc.lock records its result"
    if present is None:
        return False, f"an input of {name} is missing, so this may still be needed: run `dvc repro` first"
    if work.name in present:
        return False, f"its inputs are current: `dvc repro {name}` continues from here"
    return True, "its inputs have changed since"


def _remove(work: Path) -> None:
    """Raises PipelineError, which names the process, if one works there."""
    with locked(work):
        remove(work)
    if UNDELIVERED in work.name:  # no stage locks it under this name
        remove(work.with_name(f"{work.name}.lock"))
