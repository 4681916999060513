"""Local files under data/: .txt .md .jsonl (plain, .gz or .zst) and .parquet, read in pieces."""

import codecs
import gzip
import io
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pyarrow
import pyarrow.parquet

from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Record, Text
from groundup.prepare.sources.reader import Reader
from groundup.prepare.sources.rows import BadRow, read_row
from groundup.runner.params.prepare import FilesSource

logger = logging.getLogger(__name__)

TEXT_SUFFIXES = (".txt", ".md")
PACKED_SUFFIXES = (".gz", ".zst")
PARQUET_ROWS = 128  # read at once
WIDE_ENCODINGS = {  # UTF-32 first: its byte order mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
SUFFIXES = "use .txt, .md or .jsonl (each also with .gz or .zst), or .parquet"


class Files(Reader[FilesSource]):
    @property
    def place(self) -> str:
        return ", ".join(f"data/{pattern}" for pattern in self.source.paths)

    def check(self) -> None:
        self.find()

    def find(self) -> list[Path]:
        """Sorted paths; ValueError lists every pattern and file that cannot be used."""
        found: set[Path] = set()
        problems = []
        for pattern in self.source.paths:
            if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
                problems.append(f"{pattern} is outside data/; give a path relative to data/ and copy the files there")
                continue
            # data/README.md explains the folder and is not data.
            readme = self.data_dir / "README.md"
            matches = [path for path in self.data_dir.glob(pattern) if path.is_file() and path != readme]
            if not matches:
                problems.append(f"{pattern} matches no file in data/; correct it, or put the files there")
            found.update(matches)
        for path in sorted(found):
            kind, yields = file_kind(path), self.source.yields
            if not path.resolve().is_relative_to(self.data_dir.resolve()):
                problems.append(f"{path.name} is a link out of data/, which DVC cannot see; copy the file instead")
            elif kind is None:
                problems.append(f"{path.name}: this kind of file cannot be read; {SUFFIXES}")
            elif kind in TEXT_SUFFIXES and yields != "text":
                problems.append(f"{path.name}: a {kind} file yields text, not {yields}; use .jsonl or .parquet")
        if problems:
            raise ValueError("\n".join(f"source {self.source.name}: {problem}" for problem in problems))
        return sorted(found)

    def origin(self) -> dict[str, Any]:
        return {"package": None, "version": None, "sha256": self.digests(self.find())}

    def read(self) -> Iterator[Record | BadRow]:
        for path in self.find():
            name = f"data/{path.relative_to(self.data_dir).as_posix()}"
            if path.stat().st_size == 0:
                logger.warning("prepare: %s is empty", name)
                continue
            try:
                yield from self._read_file(path, name)
            except (OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
                if isinstance(error, OSError) and error.errno is not None:  # those of gzip and pyarrow have no errno
                    error.filename = str(path)
                    raise
                raise ValueError(
                    f"{name} cannot be read ({error}): it is damaged or incomplete; copy it again"
                ) from None
            except UnicodeDecodeError as error:
                raise ValueError(f"{name} is not UTF-8 ({error}); convert it, for example with iconv") from None

    def _read_file(self, path: Path, name: str) -> Iterator[Record | BadRow]:
        source, max_bytes, file_name = self.source, self.max_row_bytes, name.removeprefix("data/")
        if file_kind(path) == ".parquet":
            for number, row in enumerate(read_parquet(path), start=1):
                yield read_row(source, name, number, row, max_bytes, ids_in=file_name)
            return
        with open_bytes(path) as file:
            check_encoding(file, name)
            if file_kind(path) == ".jsonl":
                for number, line in read_lines(file, max_bytes):
                    yield read_row(source, name, number, line, max_bytes, ids_in=file_name)
            else:
                lines = io.TextIOWrapper(file, encoding="utf-8")
                for part, text in enumerate(read_parts(lines, self.params.clean.max_characters)):
                    yield Text(f"{source.name}/{file_name}#{part}", source.name, text)


def file_kind(path: Path) -> str | None:
    """.txt, .md, .jsonl or .parquet, without the suffix of a compression."""
    suffix = path.suffix.lower()
    if suffix in PACKED_SUFFIXES:
        suffix = path.with_suffix("").suffix.lower()
        return suffix if suffix in (*TEXT_SUFFIXES, ".jsonl") else None
    return suffix if suffix in (*TEXT_SUFFIXES, ".jsonl", ".parquet") else None


def open_bytes(path: Path) -> io.BufferedReader:
    """The content, decompressed if needed."""
    match path.suffix.lower():
        case ".gz":
            return io.BufferedReader(cast(io.RawIOBase, gzip.open(path)))
        case ".zst":
            # pyarrow brings zstandard, so that no further library is needed.
            return io.BufferedReader(cast(io.RawIOBase, pyarrow.input_stream(str(path), compression="zstd")))
        case _:
            return path.open("rb")


def check_encoding(file: io.BufferedReader, name: str) -> None:
    start = file.peek(4)
    for mark, encoding in WIDE_ENCODINGS.items():
        if start.startswith(mark):
            raise ValueError(
                f"{name} is {encoding}, not UTF-8: convert it with "
                f"`iconv -f {encoding} -t UTF-8 OLD > NEW` (as its first bytes say)"
            )


def read_lines(file: IO[bytes], max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank; one above `max_bytes` is cut to slightly more than `max_bytes`."""
    number = 0
    while line := file.readline(max_bytes + 2):
        number += 1
        if line.strip():
            yield number, line
        while line and not line.endswith(b"\n"):
            line = file.readline(max_bytes + 2)


def read_parquet(path: Path) -> Iterator[Row]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            yield from batch.to_pylist()


def read_parts(lines: IO[str], max_characters: int) -> Iterator[str]:
    """Split a text file into documents of at most `max_characters`, at blank lines if there are some, else at lines.

    One big file (a book, a dump) thus becomes many documents, and a part of it can be held out.
    """
    part, size, last_blank = list[str](), 0, 0  # last_blank: number of lines up to the last blank one
    while line := lines.readline(max_characters):  # a single endless line comes in pieces too
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
