"""Work dirs, `.work/<stage>/<fingerprint>`: which results of earlier runs can be used, and why the others cannot."""

import logging
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from groundup.runner.files import dvc_md5, fsync_tree, read_json, remove, write_json
from groundup.runner.fingerprint import Fingerprint
from groundup.runner.launch.settings import Launch
from groundup.runner.lock import lock_path, try_lock
from groundup.runner.nested import flatten
from groundup.runner.pipeline import StageSpec, recorded_stage
from groundup.runner.tracking.spool import is_delivered

logger = logging.getLogger(__name__)

SCRATCH = "scratch"  # checkpoints and finished sub-steps
EXPORT = "export"  # staged outs
FINISHED = "finished.json"  # metrics and md5s of a complete export; written last
PARTS = "fingerprint.json"  # the parts of the fingerprint, to name differences
UNDELIVERED = "-undelivered-"
SEGMENTS = "segments.json"  # in how many processes which steps were taken
SERVED = ", rollouts by servers"
MAX_NAMED = 5  # of the packages whose versions differ


def sweep(root: Path, folder: Path, spec: StageSpec, fingerprint: Fingerprint) -> None:
    """Clear work dirs whose result dvc.lock records: DVC has the bytes, and a forced run trains from scratch.

    Runs that MLflow has not received yet stay, for `groundup deliver`.
    """
    for work in sorted(path.parent for path in folder.glob(f"[0-9a-f]*/{FINISHED}")):
        if UNDELIVERED in work.name and not is_delivered(work):
            continue
        with try_lock(lock_path(work)) as free:
            if not free or not is_recorded(root, spec, work, fingerprint):
                continue  # another experiment that runs at the same time may hold it
            if is_delivered(work):
                remove(work)
            else:
                work.rename(work.with_name(f"{work.name}{UNDELIVERED}{time.time_ns()}"))


def is_recorded(root: Path, spec: StageSpec, work: Path, fingerprint: Fingerprint | None) -> bool:
    """Whether dvc.lock records the finished result in `work`. `fingerprint`: of the current inputs, if they exist."""
    if not (work / FINISHED).exists():
        return False
    recorded = recorded_stage(root, spec.name)
    if any(recorded.outs.get(out) != md5 for out, md5 in read_json(work / FINISHED)["md5s"].items()):
        return False
    if fingerprint is None or work.name != fingerprint.value:
        return True
    # other inputs may have given the same bytes before; DVC then has not recorded this run yet
    return recorded.params == fingerprint.params and recorded.deps == {dep: dvc_md5(root / dep) for dep in spec.deps}


def note_start(folder: Path, work: Path, fingerprint: Fingerprint) -> None:
    """Log whether unfinished work is resumed, or what changed since; then store the parts of this fingerprint."""
    if _is_unfinished(work):
        logger.info("%s: resuming the unfinished work in %s", fingerprint.stage, work)
    elif not (work / FINISHED).exists():
        others = [path.parent for path in folder.glob(f"*/{PARTS}") if re.fullmatch("[0-9a-f]+", path.parent.name)]
        others = [path for path in others if path != work and _is_unfinished(path)]
        if others:
            newest = max(others, key=lambda path: (path / PARTS).stat().st_mtime)
            logger.info(
                "%s: starting from scratch, since %s; the unfinished work is in %s (`groundup clean` removes it)",
                fingerprint.stage,
                difference(read_json(newest / PARTS), fingerprint),
                newest,
            )
    write_json(work / PARTS, asdict(fingerprint))


def note_segment(work: Path, step: int, launch: Launch) -> dict[str, str]:
    """Note that training continues after `step` as launched; the run's tags about that.

    Another number of processes adds up in another order, so a run of several numbers has the bytes of no other. A
    server makes batches of what comes together, so its rollouts are not repeated byte for byte.
    """
    path = work / SEGMENTS
    earlier = read_json(path) if path.exists() else []
    if not (work / FINISHED).exists():  # else there is only something to publish
        earlier = [part for part in earlier if part["after"] < step]
        named = f"{launch.num_processes} by {launch.strategy}" if launch.num_processes > 1 else "1"
        named += SERVED if launch.rollouts else ""
        if not earlier or earlier[-1]["processes"] != named:
            earlier.append({"after": step, "processes": named})
        write_json(path, earlier)
    if not earlier:  # finished by an earlier version
        return {}
    is_repeated = len(earlier) == 1 and SERVED not in earlier[0]["processes"]
    said = [f"{part['processes']} from step {part['after'] + 1}" for part in earlier]
    return {"processes": ", ".join(said), "reproducible": "yes" if is_repeated else "not byte for byte"}


def _is_unfinished(work: Path) -> bool:
    return not (work / FINISHED).exists() and (work / SCRATCH).is_dir() and any((work / SCRATCH).iterdir())


def difference(before: dict[str, Any], now: Fingerprint) -> str:
    """What changed between the parts of a fingerprint, as text."""
    after = asdict(now)
    changes = [f"{key} is {new}, not {old}," for key, old, new in _differing(before["params"], after["params"])]
    changes += [f"{dep} changed" for dep, _, _ in _differing(before["digests"], after["digests"])]
    versions = _differing(before["versions"], after["versions"])
    changes += [f"{library} is {new}, not {old}," for library, old, new in versions[:MAX_NAMED]]
    if len(versions) > MAX_NAMED:
        changes.append(f"{len(versions) - MAX_NAMED} more packages are of other versions,")
    if before["device"] != after["device"]:
        changes.append(f"the device is {after['device']}, not {before['device']}")
    return " and ".join(changes).removesuffix(",")


def _differing(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) wherever two nested dicts differ; None for a missing key."""
    old, new = flatten(before), flatten(after)
    keys = sorted(old.keys() | new.keys())
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def record_finished(work: Path, outs: tuple[str, ...], metrics: dict[str, Any]) -> None:
    fsync_tree(work / EXPORT)
    md5s = {out: dvc_md5(work / EXPORT / out) for out in outs}
    write_json(work / FINISHED, {"metrics": metrics, "md5s": md5s})


def read_finished(work: Path) -> dict[str, Any] | None:
    """Metrics of a complete result that DVC has not recorded yet; None if there is none."""
    if not (work / FINISHED).exists():
        return None
    record = read_json(work / FINISHED)
    changed = [out for out, md5 in record["md5s"].items() if _md5(work / EXPORT / out) != md5]
    if changed:
        logger.warning("the finished result in %s is damaged (%s), so the stage runs again", work, ", ".join(changed))
        remove(work / FINISHED)
        return None
    logger.info("publishing the finished result of these inputs from %s", work)
    return dict(record["metrics"])


def _md5(path: Path) -> str | None:
    return dvc_md5(path) if path.exists() else None


def discard(work: Path) -> None:
    """Remove all results and checkpoints; the record of the run stays."""
    for name in (FINISHED, EXPORT, SCRATCH, SEGMENTS):
        remove(work / name)
