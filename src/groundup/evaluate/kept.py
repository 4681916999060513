"""Answers that are dear, in a file of JSON lines: written as soon as they are there, read by every later run."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")


def read_kept(path: Path, parse: Callable[[dict[str, Any]], T]) -> dict[str, T]:
    """Answers by key; a line that a killed process left incomplete is computed again."""
    known: dict[str, T] = {}
    if not path.exists():
        return known
    with path.open(encoding="utf-8") as lines:
        for line in filter(str.strip, lines):
            try:
                row = json.loads(line)
                known[row["key"]] = parse(row)
            except (json.JSONDecodeError, KeyError, TypeError):
                logger.warning("%s holds a line that cannot be read; its answer is asked for again", path)
    return known


def open_kept(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8", newline="\n")


def keep(file: TextIO, row: dict[str, Any]) -> None:
    """The line break comes first, so that a line that was left incomplete spoils no other."""
    file.write("\n" + json.dumps(row))
    file.flush()
