"""Finished sub-steps of the stage, so that a restart goes on where it stopped."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from groundup.frame.files import write_text

logger = logging.getLogger(__name__)
Arguments = TypeVarTuple("Arguments")
T = TypeVar("T", bound=Mapping[str, Any])  # plain values only: they go through JSON


class FinishedSteps:
    """Results by name, one JSON file each in a directory that belongs to these inputs and params alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, name: str, compute: Callable[[*Arguments], T], *args: *Arguments) -> T:
        """The saved result, or else compute's, saved. Floats come back from JSON as they went in."""
        path = self.directory / f"{name}.json"
        if path.exists():
            logger.info("%s: done before", name)
        else:
            logger.info("%s", name)
            write_text(path, json.dumps(compute(*args)))
        result: T = json.loads(path.read_text(encoding="utf-8"))
        return result
