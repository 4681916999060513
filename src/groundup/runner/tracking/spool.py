"""The spool: an append-only file of events. Training writes it and never waits for MLflow."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from groundup.runner.files import DamagedFileError, fsync_path, write_json
from groundup.runner.lock import try_lock
from groundup.runner.redact import redact_all

EVENTS = "spool.jsonl"
FREE_TEXT = ("params", "tags")  # fields of events that may hold a secret; the others are paths, names and numbers
RUN = "run.json"  # {spool, run_id, num_events}: what has been delivered of which spool, written by the deliverer

Event = dict[str, Any]


@dataclass(frozen=True)
class Delivered:
    """How many events of a spool have been delivered, and to which run."""

    run_id: str | None
    num_events: int


def spool_id(work: Path) -> str:
    """Tag of the run that this spool is delivered to: a hash of its first event, which never changes."""
    with (work / EVENTS).open("rb") as lines:
        return hashlib.sha256(lines.readline()).hexdigest()[:16]


def read_delivered(work: Path) -> Delivered:
    """What has been delivered; nothing if the note is about an earlier spool in this folder."""
    try:
        state = _parse((work / RUN).read_bytes(), work / RUN, 1)
        if state.get("spool", spool_id(work)) == spool_id(work):
            return Delivered(state["run_id"], state["num_events"])
    except FileNotFoundError:
        pass
    return Delivered(None, 0)


def note_delivered(work: Path, delivered: Delivered) -> None:
    state = {"spool": spool_id(work), "run_id": delivered.run_id, "num_events": delivered.num_events}
    write_json(work / RUN, state)


def is_delivered(work: Path) -> bool:
    """Whether MLflow has every event of the work dir's spool."""
    return read_delivered(work).num_events >= sum(1 for _ in read_events(work / EVENTS, 0))


def waiting(folder: Path) -> tuple[list[Path], list[DamagedFileError]]:
    """Work dirs with something to deliver, and the errors of damaged spools.

    Oldest first: a run comes after the runs that it depends on.
    """
    since: dict[Path, int] = {}
    damaged = []
    for path in sorted(folder.glob(f"*/*/{EVENTS}")):
        try:
            if not is_delivered(path.parent):
                since[path.parent] = next(read_events(path, 0))["time_ms"]
        except DamagedFileError as error:  # no other run depends on it
            damaged.append(error)
    return sorted(since, key=lambda work: since[work]), damaged


@contextmanager
def claimed(work: Path) -> Iterator[bool]:
    """One deliverer for each spool; False if another process has it. Training never takes this lock."""
    with try_lock(work / "deliver.lock") as free:
        yield free


class Spool:
    """Writer side. Events: start, point, outputs, register, metrics, artifacts, finish. No event holds a secret.

    It keeps no file open, since the runner and the process of a stage's body write in turns.
    """

    def __init__(self, work: Path) -> None:
        self.path = work / EVENTS

    def write(self, kind: str, **fields: Any) -> None:
        shown = {key: redact_all(value) if key in FREE_TEXT else value for key, value in fields.items()}
        event = {"kind": kind, "time_ms": int(time.time() * 1000), **shown}
        line = json.dumps(event).encode() + b"\n"
        with self.path.open("a+b", buffering=0) as file:  # a buffer would keep a failed write and repeat it at close
            end = _cut_half_line(file)
            try:
                while line:
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(end)  # the part of the line that was written
                raise

    def sync(self) -> None:
        """Make all events survive a power cut: called before a checkpoint, which must not outlast its points."""
        fsync_path(self.path)
        fsync_path(self.path.parent)


def _cut_half_line(file: FileIO) -> int:
    """Remove a half-written last line, left by a killed process; returns the end of the file."""
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            end = file.readall().rfind(b"\n") + 1
            file.truncate(end)
    return end


def read_events(path: Path, skip: int) -> Iterator[Event]:
    """Whole events after the first `skip`."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if number >= skip and line.endswith(b"\n"):
                yield _parse(line, path, number + 1)


def _parse(text: bytes, path: Path, line: int) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:  # neither JSON nor UTF-8
        raise DamagedFileError(
            f"{path}, line {line} is not valid JSON ({error}); remove the folder {path.parent}: what MLflow has of "
            "its run stays"
        ) from None
    return value


def offset_of(path: Path, skip: int) -> int:
    """Offset of the first event after the first `skip`."""
    with path.open("rb") as lines:
        return sum(len(line) for line, _ in zip(lines, range(skip), strict=False))


def read_from(path: Path, offset: int, skip: int) -> tuple[list[Event], int]:
    """Whole events from `offset`, which is behind `skip` events, and the offset of the next one."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    lines = enumerate(whole.splitlines(), start=skip + 1)
    return [_parse(line, path, number) for number, line in lines], offset + len(whole)


def read_curve(work: Path) -> list[dict[str, float]]:
    """All points as rows ordered by step; for a step repeated after a resume, the last values count."""
    rows: dict[int, dict[str, float]] = {}
    for event in read_events(work / EVENTS, 0):
        if event["kind"] == "point":
            rows.setdefault(event["step"], {}).update(event["values"])
    return [{"step": step, **rows[step]} for step in sorted(rows)]


def curve_csv(rows: list[dict[str, float]]) -> str:
    """CSV with the column step first; a metric not measured at a step is left empty."""
    columns = ["step", *sorted({name for row in rows for name in row if name != "step"})]
    lines = [",".join(columns)]
    lines += [",".join(f"{row[name]:.9g}" if name in row else "" for name in columns) for row in rows]
    return "\n".join(lines) + "\n"
