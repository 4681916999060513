"""What was measured: printed as it comes, kept as JSON, shown as a table at the end."""

import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

Figure = float | int | str | bool | None
Figures = Mapping[str, Figure]
MESSAGE_CHARACTERS = 200


@dataclass(frozen=True)
class Measurement:
    what: str
    compared_with: str
    take: Callable[[], Figures]


@dataclass
class Rows:
    out: Path  # result.json and result.md
    start: float = field(default_factory=time.monotonic)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def take(self, part: str, measurement: Measurement, seconds_left: float) -> None:
        """A failure costs this row alone."""
        start = time.monotonic()
        figures: Figures = {}
        problem = ""
        try:
            with limited(seconds_left):
                figures = measurement.take()
        except Exception as error:
            problem = problem_of(error)
        self.add(part, measurement.what, measurement.compared_with, figures, problem, time.monotonic() - start)

    def add(
        self, part: str, what: str, compared_with: str, figures: Figures, problem: str = "", seconds: float = 0.0
    ) -> None:
        row = {
            "part": part,
            "what": what,
            "compared_with": compared_with,
            "figures": dict(figures),
            "problem": problem,
        }
        self.rows.append({**row, "seconds": round(seconds, 1)})
        taken = time.monotonic() - self.start
        logger.info("[%3.0f s] %s: %s: %s", taken, part, what, shown(figures, problem))
        self.write()

    def write(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "result.json").write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")
        (self.out / "result.md").write_text(self.table(), encoding="utf-8")

    def table(self) -> str:
        lines = ["| part | what | figures | compared with |", "|---|---|---|---|"]
        for row in self.rows:
            cells = (row["part"], row["what"], shown(row["figures"], row["problem"]), row["compared_with"])
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        return "\n".join(lines) + "\n"


def problem_of(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MESSAGE_CHARACTERS]


def shown(figures: Figures, problem: str) -> str:
    said = [
        f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    ]
    return ", ".join([*said, *([f"FAILED {problem}"] if problem else [])])


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """TimeoutError in what takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
