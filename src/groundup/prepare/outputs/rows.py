"""Write and count the rows of an output."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from groundup.core.formats.jsonl import Row, write_jsonl
from groundup.core.formats.records import Conversation, Record, from_line
from groundup.prepare.splits import DATA_SPLITS

Records = Mapping[str, Path]  # the file of records of each split
Sizes = dict[str, dict[str, int]]  # rows, characters and rows of each kind, of each file by its stem


def write_splits(target: Path, records: Records, rows: Callable[[Path], Iterable[Row]]) -> Sizes:
    """<split>.jsonl for train, val and test, with the rows that `rows` makes from the split's records."""
    return {split: write_rows(target / f"{split}.jsonl", rows(records[split])) for split in DATA_SPLITS}


def write_rows(path: Path, rows: Iterable[Row]) -> dict[str, int]:
    num_characters = 0
    kinds: Counter[str] = Counter()

    def counted() -> Iterator[Row]:
        nonlocal num_characters
        for row in rows:
            num_characters += characters(row)
            if "kind" in row:
                kinds[row["kind"]] += 1
            yield row

    return {"rows": write_jsonl(path, counted()), "characters": num_characters, **kinds}


def with_offsets(file: BinaryIO) -> Iterator[tuple[int, Record]]:
    """Each record of a file with the offset of its line; callers keep only the offset to save memory."""
    offset = 0
    for line in file:
        yield offset, from_line(line)
        offset += len(line)


def conversation_at(file: BinaryIO, offset: int) -> Conversation:
    file.seek(offset)
    record = from_line(file.readline())
    assert isinstance(record, Conversation)
    return record


def characters(row: Row) -> int:
    """Number of characters that a model reads: texts, messages, choices."""
    messages = [m for key in ("messages", "query", "chosen", "rejected") for m in row.get(key, [])]
    return len(row.get("text", "")) + sum(len(m["content"]) for m in messages) + sum(map(len, row.get("choices", [])))
