"""The spool: an append-only file of events. Training writes it and never waits for MLflow."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

EVENTS = "spool.jsonl"
RUN = "run.json"  # run_id and the number of events delivered, written by the deliverer

Event = dict[str, Any]


@dataclass(frozen=True)
class Delivered:
    """How far the deliverer has come."""

    run_id: str | None
    num_events: int


def read_delivered(work: Path) -> Delivered:
    try:
        state = json.loads((work / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Delivered(None, 0)
    return Delivered(state["run_id"], state["num_events"])


def is_delivered(work: Path) -> bool:
    """Whether MLflow has every event of the work dir's spool."""
    return read_delivered(work).num_events >= sum(1 for _ in read_events(work / EVENTS, 0))


class Spool:
    """Writer side. Events: start, point, artifacts, outputs, metrics, finish."""

    def __init__(self, work: Path) -> None:
        self.path = work / EVENTS
        self._repair()
        self._file: TextIO = self.path.open("a", encoding="utf-8")
        self.num_events = sum(1 for _ in read_events(self.path, 0))

    def _repair(self) -> None:
        """Cut off the half-written last line of a killed run."""
        if self.path.exists():
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                with self.path.open("r+b") as file:
                    file.truncate(whole)

    def write(self, kind: str, **fields: Any) -> None:
        self._file.write(json.dumps({"kind": kind, "time_ms": int(time.time() * 1000), **fields}) + "\n")
        self._file.flush()
        self.num_events += 1

    def close(self) -> None:
        self._file.close()


def read_events(path: Path, skip: int) -> Iterator[Event]:
    """Whole events after the first `skip`."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number >= skip and line.endswith("\n"):
                yield json.loads(line)


def read_curve(work: Path) -> list[dict[str, float]]:
    """All points as rows in the order of their steps; a step repeated after a resume counts once, the last time."""
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
