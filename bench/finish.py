"""A piece of a long benchmark that is computed once: what is finished is kept, what was cut off continues."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from groundup.runner.checkpoints import Checkpoints
from groundup.runner.files import read_json, remove, write_json
from groundup.runner.interruption import Interruption

SETTING = "setting.json"
RESULT = "result.json"  # written last: a cell that has it is finished

logger = logging.getLogger(__name__)


def finish(folder: Path, compute: Callable[[Checkpoints], dict[str, Any]]) -> dict[str, Any]:
    """The cell's metrics, computed now unless they were before."""
    if (folder / RESULT).exists():
        logger.info("%s: done before", folder.name)
        return dict(read_json(folder / RESULT))
    logger.info("%s", folder.name)
    interruption = Interruption()
    interruption.listen()  # Ctrl-C waits for a checkpoint
    start = time.monotonic()
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    metrics = compute(Checkpoints(work, interruption))
    result = {**metrics, "cell_seconds": round(time.monotonic() - start, 1)}
    write_json(folder / RESULT, result)
    remove(work)
    return result


def check_setting(work: Path, setting: dict[str, Any]) -> None:
    """ValueError if the folder holds cells of another setting, which would be compared as if they were of this."""
    path = work / SETTING
    if not path.exists():
        write_json(path, setting)
    elif read_json(path) != setting:
        raise ValueError(f"{work} holds cells of other params or of other models: remove it, or name another folder")
