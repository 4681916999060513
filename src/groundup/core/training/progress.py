"""Progress of training for people: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from groundup.core.training.ranks import is_first

logger = logging.getLogger(__name__)

LINE_SECONDS = 15.0  # between plain lines


class ProgressReport:
    """Shows steps, loss, rate and time left, from the first rank. `rate_unit`: what `amount` counts (tokens)."""

    def __init__(self, name: str, num_steps: int, rate_unit: str) -> None:
        self.name = name
        self.num_steps = num_steps
        self.rate_unit = rate_unit
        self._start: float | None = None
        self._amount = 0.0
        self._first_step = 0
        self._last_line = 0.0
        self._bar: Progress | None = None

    def update(self, step: int, amount: float, loss: float | None) -> None:
        """Report that step `step` is done and has processed `amount` more units; loss: None if it is not known yet."""
        if not is_first():
            return
        now = time.monotonic()
        if self._start is None:  # the first step warms up and is not timed
            self._start, self._first_step, self._last_line = now, step, now
            self._open()
            return
        self._amount += amount
        elapsed = now - self._start
        rate = self._amount / elapsed
        per_second = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"
        text = ("" if loss is None else f"loss {loss:.3f}  ") + f"{per_second} {self.rate_unit}/s"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, description=text)
        elif now - self._last_line >= LINE_SECONDS or step == self.num_steps:
            left = elapsed / (step - self._first_step) * (self.num_steps - step)
            logger.info("%s %d/%d  %s  %.0f s left", self.name, step, self.num_steps, text, left)
            self._last_line = now
        if step >= self.num_steps:
            self.close()

    def _open(self) -> None:
        if sys.stderr.isatty():
            columns = (TextColumn(self.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True))
            self._bar.add_task("", total=self.num_steps)
            self._bar.start()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
