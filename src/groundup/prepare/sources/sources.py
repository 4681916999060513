"""The kinds of source; open and check all sources of a run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from groundup.prepare.sources.files import Files
from groundup.prepare.sources.hub import Hub
from groundup.prepare.sources.packages import Package
from groundup.prepare.sources.reader import Reader
from groundup.runner.params.prepare import PrepareParams

KINDS: dict[str, type[Reader[Any]]] = {"package": Package, "files": Files, "hub": Hub}


def open_sources(params: PrepareParams, data_dir: Path, cache_dir: Path) -> list[Reader[Any]]:
    return [KINDS[source.kind](source, data_dir, cache_dir, params) for source in params.sources]


def check_sources(readers: Iterable[Reader[Any]]) -> None:
    """ValueError names every source that cannot be read."""
    problems = []
    for reader in readers:
        try:
            reader.check()
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("prepare.sources cannot be read:\n" + "\n".join(problems))
