"""What stages took. No stage may depend on it: a clock never says the same twice."""

import os
import sys
import time
from pathlib import Path

import psutil

from groundup.runner.files import read_object
from groundup.runner.pipeline import read_pipeline


def process_seconds() -> float:
    """Since the interpreter started. On Linux psutil adds to the second of the boot, up to one too many."""
    if sys.platform == "linux":
        started = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")
    else:
        seconds = time.time() - psutil.Process().create_time()
    return round(seconds, 2)


def stage_seconds(root: Path) -> dict[str, float]:
    """By stage, of its last process, as the metrics files say; in pipeline order. One that has not run is left out."""
    files = {name: root / f"metrics/{name}.json" for name in read_pipeline(root)}
    records = {name: read_object(path) for name, path in files.items() if path.exists()}
    return {name: float(record["stage_seconds"]) for name, record in records.items() if "stage_seconds" in record}
