"""How long a piece of work takes on this machine."""

import time
from collections.abc import Callable

import torch

MIN_RUNS, MAX_RUNS, BUDGET_SECONDS = 3, 12, 1.5  # of each kind, after a warm-up
LONG_SECONDS = 5.0  # a first run that takes this long is not repeated


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest run, since other work on the machine can only slow a run down."""
    taken: list[float] = []
    for run in range(1 + MAX_RUNS):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        if run or seconds > LONG_SECONDS:
            taken.append(seconds)
        if not run and taken:
            break
        if len(taken) >= MIN_RUNS and sum(taken) > BUDGET_SECONDS:
            break
    return min(taken)
