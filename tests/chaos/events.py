"""The audit log: which file accesses a stage makes, in which order and when."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.audit.sitecustomize import COUNTED

WINDOWS = ("training", "checkpoint", "export", "publish", "commit")


@dataclass(frozen=True)
class Event:
    time: float
    pid: int
    role: str
    stage: str
    event: str
    mode: str
    path: str

    @property
    def changes(self) -> bool:
        return self.mode in ("write", "make")


class Instant(NamedTuple):
    """At most `delay` seconds after the `number`th counted access of a process of `role`."""

    role: str
    number: int
    gap: float  # seconds until the next access


def read_events(log: Path, skip_bytes: int = 0) -> list[Event]:
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(skip_bytes)
        rows = [line.rstrip("\n").split("\t", 6) for line in file]
    return [Event(float(t), int(pid), role, stage, *rest) for t, pid, role, stage, *rest in rows]


def of_stage(events: list[Event], stage: str) -> list[Event]:
    return [event for event in events if (event.role, event.stage) == ("stage", stage)]


def of_commit(events: list[Event], stage: str) -> list[Event]:
    """What dvc does after it has started the stage, until the end or the next stage."""
    found: list[Event] = []
    pid = None
    for event in events:
        if event.mode == "spawn":
            pid = event.pid if event.path.endswith(f"stages.{stage}") else None
        elif event.role == "dvc" and event.pid == pid:
            found.append(event)
    return found


def is_counted(event: Event) -> bool:
    return event.path.startswith(COUNTED)


def windows(events: list[Event], stage: str) -> dict[str, list[Instant]]:
    """The instants at which a kill may happen, by the activity of the stage; a stage may lack some.

    training: from the end of the imports to the last export, whatever happens in it; checkpoint: changes in the part
    of the work dir that is the stage's own; export: to the first published file; publish: to the end; commit: dvc's.
    """
    of_process = of_stage(events, stage)
    own = re.compile(rf"\.work/{stage}/[^/]+/scratch/")
    export = re.compile(rf"\.work/{stage}/[^/]+/export/")
    published = ("artifacts/", "metrics/")
    writes = [event for event in of_process if event.event in ("open", "os.rename") and event.mode == "write"]
    started = first_time(of_process, lambda e: e.changes and (own.match(e.path) or export.match(e.path)))
    imported = max((e.time for e in of_process if e.path.startswith("src/") and e.time < started), default=0.0)
    saved = max((e.time for e in writes if own.match(e.path)), default=0.0)
    exported = first_time(writes, lambda e: e.time > saved and export.match(e.path))
    publishing = first_time(of_process, lambda e: e.changes and e.path.startswith(published))
    found: dict[str, list[Instant]] = {window: [] for window in WINDOWS}
    for instant, event in numbered("stage", of_process):
        if imported < event.time < exported:
            found["training"].append(instant)
            if event.changes and own.match(event.path):
                found["checkpoint"].append(instant)
        elif exported <= event.time < publishing:
            found["export"].append(instant)
        elif event.time >= publishing:
            found["publish"].append(instant)
    ended = of_process[-1].time
    commit = numbered("dvc", of_commit(events, stage))
    found["commit"] = [instant for instant, event in commit if event.changes and event.time > ended]
    return {window: instants for window, instants in found.items() if instants}


def first_time(events: list[Event], matches) -> float:
    return next((event.time for event in events if matches(event)), float("inf"))


def numbered(role: str, events: list[Event]) -> list[tuple[Instant, Event]]:
    """Counted accesses with their number, as the audit counts them."""
    counted = [event for event in events if is_counted(event)]
    gaps = [later.time - earlier.time for earlier, later in pairwise(counted)] + [0.0]
    return [
        (Instant(role, number, gap), event) for number, (event, gap) in enumerate(zip(counted, gaps, strict=True), 1)
    ]
