"""JSON lines files: one object per line, UTF-8, keys in the given order."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from groundup.runner.files import restore

Row = dict[str, Any]


def read_jsonl(path: Path, columns: tuple[str, ...] = ()) -> Iterator[Row]:
    """Rows of a file from an earlier stage or step; ValueError says where it is damaged."""
    if not path.is_file():
        raise ValueError(f"{path} is missing. {restore(path.parent)}")
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{path}, line {number} is not JSON ({error}). {restore(path.parent)}") from None
                if not isinstance(row, dict):
                    raise ValueError(f"{path}, line {number} is not an object. {restore(path.parent)}")
                if lacking := [column for column in columns if column not in row]:
                    raise ValueError(f"{path}, line {number} lacks {', '.join(lacking)}. {restore(path.parent)}")
                yield row
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error.reason}). {restore(path.parent)}") from None


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Write rows; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    num_rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            num_rows += 1
    return num_rows
