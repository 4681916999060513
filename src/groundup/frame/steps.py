"""Finished sub-steps of a stage, so that a restart goes on where it stopped."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from groundup.frame.disk import writing
from groundup.frame.files import files_below, fsync_tree, remove, write_text

logger = logging.getLogger(__name__)
Arguments = TypeVarTuple("Arguments")
T = TypeVar("T", bound=Mapping[str, Any])  # plain values only: they go through JSON


class FinishedSteps:
    """Results by name in a directory that belongs to these inputs and params alone.

    The record of a step, <name>.json, is written last: where it stands, the step is whole.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, name: str, compute: Callable[[*Arguments], T], *args: *Arguments) -> T:
        """The saved result, or else compute's, saved. Floats come back from JSON as they went in."""
        if self._record(name) is None:
            logger.info("%s", name)
            with writing(f"the step {name}", self.directory):
                result = compute(*args)
                fsync_tree(self.folder(name))
                write_text(self._path(name), json.dumps({"result": result, "sizes": self._sizes(name)}))
        else:
            logger.info("%s: done before", name)
        record = self._record(name)
        assert record is not None
        saved: T = record["result"]
        return saved

    def fill(self, name: str, write: Callable[[Path], T]) -> T:
        """As `get`, for a step that leaves files: `write` gets the empty folder(name)."""
        folder = self.folder(name)
        if self._record(name) is None:
            remove(folder)  # what a killed process left of it
            folder.mkdir(parents=True)
        return self.get(name, write, folder)

    def folder(self, name: str) -> Path:
        return self.directory / name

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _record(self, name: str) -> dict[str, Any] | None:
        """None where the step is to be done, also if its files are no longer those it left."""
        if not self._path(name).exists():
            return None
        record: dict[str, Any] = json.loads(self._path(name).read_text(encoding="utf-8"))
        if record["sizes"] != self._sizes(name):
            logger.warning("%s: its files are not as it left them; it is done again", name)
            return None
        return record

    def _sizes(self, name: str) -> dict[str, int]:
        folder = self.folder(name)
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_below(folder)}
