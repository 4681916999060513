"""Which work dirs nobody needs any more, and their removal."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

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
    """What becomes of a work dir, and why."""

    work: Path
    num_bytes: int
    stale: bool  # and so removed, unless this is a dry run
    reason: str


def clean(root: Path, undelivered: bool, dry_run: bool) -> Iterator[Verdict]:
    """Judge every work dir and remove what is stale; `undelivered` also gives up what MLflow has not taken."""
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
                reason += ", but MLflow has not taken its run: `groundup deliver` sends it, --undelivered gives it up"
            if stale and not dry_run:
                try:
                    _remove(work)
                except PipelineError as error:
                    stale, reason = False, str(error)
            yield Verdict(work, num_bytes, stale, reason)


def _present(root: Path, spec: StageSpec) -> dict[str, Fingerprint] | None:
    """Fingerprints of the present inputs on each device, by their work dir's name; None if an input is missing."""
    params = select(load_params(root / "params.yaml"), spec.params)
    try:
        fingerprint = take_fingerprint(root, spec, params, DEVICES[0])
    except FileNotFoundError:
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
        return False, f"{name} lacks an input, so whether this is needed cannot be told: `dvc repro` first"
    if work.name in present:
        return False, f"its inputs are the present ones: `dvc repro {name}` continues from here"
    return True, "its inputs are not the present ones"


def _remove(work: Path) -> None:
    """PipelineError names the process that works there."""
    with locked(work):
        remove(work)
    if UNDELIVERED in work.name:  # no stage locks it under this name
        remove(work.with_name(f"{work.name}.lock"))
