"""Finished sub-steps of a stage, so that a restart continues where it stopped."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from groundup.runner.checkpoints import Processes
from groundup.runner.disk import writing
from groundup.runner.files import DamagedFileError, file_digests, fsync_tree, read_object, remove, write_text

logger = logging.getLogger(__name__)
Arguments = TypeVarTuple("Arguments")
T = TypeVar("T", bound=Mapping[str, Any])  # plain values only: they go through JSON


class FinishedSteps:
    """Results by name in a directory that belongs to these inputs and params alone.

    The record of a step, <name>.json, is written last and holds the sha256 of the step's files. A step is complete if
    its record exists and matches its files.
    """

    def __init__(self, directory: Path, processes: Processes | None = None) -> None:
        self.directory = directory
        self.processes = processes or Processes()

    def get(self, name: str, compute: Callable[[*Arguments], T], *args: *Arguments) -> T:
        """The saved result; without one, compute and save it. Floats survive the round trip through JSON exactly.

        Several processes all compute, since they share the work; the first one's result is saved and is that of all.
        """
        record = self.processes.from_first(partial(self._record, name))
        if record is None:
            logger.info("%s", name)
            with writing(f"the step {name}", self.directory):
                if self.processes.is_first:
                    remove(self._path(name))
                result = compute(*args)
                record = self.processes.from_first(partial(self._save, name, result))
        else:
            logger.info("%s: done before", name)
        saved: T = record["result"]
        return saved

    def _save(self, name: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """The record of the step, as `_record` would read it."""
        fsync_tree(self.folder(name))
        text = json.dumps({"result": result, "files": file_digests(self.folder(name))})
        write_text(self._path(name), text)
        record: dict[str, Any] = json.loads(text)
        return record

    def fill(self, name: str, write: Callable[[Path], T]) -> T:
        """Like `get`, in one process, for a step that writes files: `write` receives the empty folder(name)."""

        def write_afresh() -> T:
            folder = self.folder(name)
            remove(folder)  # what a killed process left of it
            folder.mkdir(parents=True)
            return write(folder)

        return self.get(name, write_afresh)

    def copy(self, name: str, target: Path) -> None:
        """Copy the files of a finished step into the folder `target`; files that are there stay."""
        with writing(target.name, target.parent):
            shutil.copytree(self.folder(name), target, dirs_exist_ok=True)

    def folder(self, name: str) -> Path:
        return self.directory / name

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _record(self, name: str) -> dict[str, Any] | None:
        """The record of a complete step; None if the step must run, also because its files have changed."""
        try:
            record = read_object(self._path(name))
        except FileNotFoundError:
            return None
        except DamagedFileError:
            record = {}
        if not record.keys() >= {"result", "files"}:
            logger.warning("%s: its record cannot be read, so the step runs again", name)
            return None
        if record["files"] != file_digests(self.folder(name)):
            logger.warning("%s: its files have changed, so the step runs again", name)
            return None
        return record
