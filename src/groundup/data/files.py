"""Local files under data/: .txt .md .jsonl (plain, .gz or .zst) and .parquet, read piece by piece."""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import pyarrow
import pyarrow.parquet

from groundup.data.jsonl import Row
from groundup.data.records import Record, Text
from groundup.data.rows import RowError, to_record
from groundup.frame.params.prepare import FilesSource

TEXT_SUFFIXES = (".txt", ".md")
PACKED_SUFFIXES = (".gz", ".zst")
SUFFIXES = "use .txt, .md or .jsonl (each also with .gz or .zst), or .parquet"


def find_files(source: FilesSource, data_dir: Path) -> list[Path]:
    """Sorted paths; ValueError lists every pattern and file that cannot be used."""
    found: set[Path] = set()
    problems = []
    root = data_dir.resolve()
    for pattern in source.paths:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            problems.append(f"{pattern} leads out of data/; give a path relative to data/ and copy the files there")
            continue
        # data/README.md explains the folder and is no data.
        matches = [path for path in data_dir.glob(pattern) if path.is_file() and path != data_dir / "README.md"]
        if not matches:
            problems.append(f"{pattern} matches no file in data/; correct it, or put the files there")
        found.update(matches)
    for path in sorted(found):
        if not path.resolve().is_relative_to(root):
            problems.append(f"{path.name} is a link out of data/, which DVC cannot see; copy the file instead")
        elif (kind := file_kind(path)) is None:
            problems.append(f"{path.name}: this kind of file cannot be read; {SUFFIXES}")
        elif kind in TEXT_SUFFIXES and source.yields != "text":
            problems.append(f"{path.name}: a {kind} file yields text, not {source.yields}; use .jsonl or .parquet")
    if problems:
        raise ValueError("\n".join(f"source {source.name}: {problem}" for problem in problems))
    return sorted(found)


def file_kind(path: Path) -> str | None:
    """.txt, .md, .jsonl or .parquet, compression aside."""
    suffix = path.suffix.lower()
    if suffix in PACKED_SUFFIXES:
        suffix = path.with_suffix("").suffix.lower()
        return suffix if suffix in (*TEXT_SUFFIXES, ".jsonl") else None
    return suffix if suffix in (*TEXT_SUFFIXES, ".jsonl", ".parquet") else None


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_files(source: FilesSource, data_dir: Path, max_characters: int) -> Iterator[Record]:
    for path in find_files(source, data_dir):
        name = path.relative_to(data_dir).as_posix()
        try:
            if file_kind(path) in TEXT_SUFFIXES:
                with open_text(path) as lines:
                    for part, text in enumerate(read_parts(lines, max_characters)):
                        yield Text(f"{source.name}/{name}#{part}", source.name, text)
            else:
                rows = read_parquet(path) if file_kind(path) == ".parquet" else read_json_lines(path)
                for number, row in enumerate(rows, start=1):
                    try:
                        yield to_record(source.name, source.yields, row, source.text_column)
                    except RowError as error:
                        raise ValueError(f"data/{name}, row {number}: {error}") from None
        except (OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
            raise ValueError(
                f"data/{name} cannot be read ({error}): it is damaged or incomplete; copy it again"
            ) from None
        except UnicodeDecodeError as error:
            raise ValueError(f"data/{name} is not UTF-8 ({error}); convert it, for example with iconv") from None


def open_text(path: Path) -> IO[str]:
    match path.suffix.lower():
        case ".gz":
            return cast(IO[str], gzip.open(path, "rt", encoding="utf-8"))
        case ".zst":
            # pyarrow brings zstandard, so that no further library is needed.
            return io.TextIOWrapper(pyarrow.input_stream(str(path), compression="zstd"), encoding="utf-8")
        case _:
            return path.open(encoding="utf-8")


def read_json_lines(path: Path) -> Iterator[Row]:
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"data/{path.name}, line {number} is not JSON ({error}); one object a line") from None
            if not isinstance(row, dict):
                raise ValueError(f"data/{path.name}, line {number}: one JSON object a line, got {type(row).__name__}")
            yield row


def read_parquet(path: Path) -> Iterator[Row]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()


def read_parts(lines: IO[str], max_characters: int) -> Iterator[str]:
    """A text file in documents of at most `max_characters`, cut at blank lines where there are some, else at lines.

    So one big file (a book, a dump) is many documents, and a part of it can be held out.
    """
    part, size, last_blank = list[str](), 0, 0  # last_blank: number of lines up to and with the last blank one
    while line := lines.readline(max_characters):  # also a single endless line comes in pieces
        if part and size + len(line) > max_characters:
            cut = last_blank or len(part)
            yield "".join(part[:cut])
            part, last_blank = part[cut:], 0
            size = sum(map(len, part))
        part.append(line)
        size += len(line)
        if not line.strip():
            last_blank = len(part)
    if part:
        yield "".join(part)
