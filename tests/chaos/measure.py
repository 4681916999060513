"""The cost of a kill, from the audit log, the work dir and the uninterrupted run."""

import csv
import json
import re
from pathlib import Path
from signal import SIGKILL

from groundup.runner.params import Params
from tests.chaos.events import Event, is_counted, of_stage
from tests.chaos.plan import Kill

MIN_TORN_BYTES = 1000  # smaller files are notes about a checkpoint, not the checkpoint


def kill_event(events: list[Event]) -> Event | None:
    return next((event for event in events if event.mode == "kill"), None)


def instant(events: list[Event], kill: Event) -> str:
    """`0.012 s after .work/*/scratch/x`: the access that started the clock."""
    access = [event for event in events[: events.index(kill)] if event.pid == kill.pid and is_counted(event)][-1]
    delay = float(kill.path.split()[0])
    path = re.sub(r"^\.work/[a-z]+/[0-9a-f]{16}", ".work/*", access.path)
    path = re.sub(r"[0-9a-f]{32,}|[\w-]{22}\.tmp", "*", path)
    return f"at {access.event} {path}" if delay == 0 else f"{delay:.3f} s after {access.event} {path}"


def death(kill: Event) -> float:
    return kill.time + float(kill.path.split()[0])


def seconds_lost(events: list[Event], kill: Event, stage: str, went_on_at: float | None) -> float:
    """To the kill from the moment it continued from; None: from the last file that was put in place in the work dir.

    Without either from the end of the imports.
    """
    died = death(kill)
    own = re.compile(rf"\.work/{stage}/[^/]+/scratch/")
    before = [event for event in of_stage(events, stage) if event.time < died]
    imported = max((event.time for event in before if event.path.startswith("src/")), default=died)
    kept = [event.time for event in before if event.event == "os.rename" and own.match(event.path)]
    start = max([imported, *kept]) if went_on_at is None else max(imported, went_on_at)
    return round(max(0.0, died - start), 2)


def trained(events: list[Event], stage: str) -> bool:
    """Whether the stage wrote its outs, after training; the curve is written on every publish."""
    export = re.compile(rf"\.work/{stage}/[^/]+/export/artifacts/")
    return any(
        event.event == "open" and event.mode == "write" and export.match(event.path)
        for event in of_stage(events, stage)
    )


def points(root: Path, stage: str) -> list[tuple[int, float]]:
    """(step, time) of the points that the stage has written for MLflow, in order of writing."""
    spools = (root / ".work" / stage).glob("*/spool.jsonl")
    lines = [line for path in spools for line in path.read_bytes().splitlines(keepends=True)]
    events = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [(event["step"], event["time_ms"] / 1000) for event in events if event["kind"] == "point"]


def went_on_from(whole: list[int], before: list[int], after: list[int]) -> int:
    """The last step that was not repeated; 0: none. `whole`: the steps that an uninterrupted run logs."""
    if not after:
        return max(before, default=0)
    return max((step for step in whole if step < after[0]), default=0)


def curve_steps(root: Path, stage: str) -> list[int]:
    path = root / f"metrics/{stage}.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def checkpoint_interval(params: Params, stage: str) -> int | None:
    """Steps (align: iterations); None for a stage without steps."""
    interval: int | None = params.model_dump()[stage].get("checkpoint_every")
    return interval


def allowed_steps(params: Params, kill: Kill) -> int:
    """Steps that may be repeated: a stage that is asked to end saves first."""
    of_stage = params.model_dump()[kill.stage]
    if kill.signal != SIGKILL:
        return of_stage["log_every"] - 1 if kill.stage in ("sft", "reward") else 0
    return of_stage["checkpoint_every"] * (2 if kill.torn else 1)


def tear(work: Path) -> str:
    """Cut the newest checkpoint file of a work dir in half."""
    files = [file for file in work.glob("*/scratch/**/*") if file.is_file() and file.stat().st_size >= MIN_TORN_BYTES]
    newest = max(files, key=lambda file: file.stat().st_mtime_ns)
    with newest.open("r+b") as file:
        file.truncate(newest.stat().st_size // 2)
    return newest.relative_to(work).as_posix().split("/", 2)[2]
