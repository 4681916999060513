"""The interface of every kind of source."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from groundup.core.formats.records import Record
from groundup.prepare.sources.rows import BadRow
from groundup.runner.files import hash_file
from groundup.runner.params.prepare import PrepareParams, SourceSection

S = TypeVar("S", bound=SourceSection)


@dataclass(frozen=True)
class Reader(ABC, Generic[S]):
    """One source of prepare.sources."""

    source: S
    data_dir: Path
    cache_dir: Path  # for downloads
    params: PrepareParams

    @property
    @abstractmethod
    def place(self) -> str:
        """Where its rows are, for messages."""

    @abstractmethod
    def check(self) -> None:
        """ValueError with everything that prevents reading, before an hour goes into other sources."""

    @abstractmethod
    def read(self) -> Iterator[Record | BadRow]:
        """Its rows, in order."""

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """package, version, and sha256 of each file by path."""

    @property
    def max_row_bytes(self) -> int:
        return self.params.max_row_bytes

    def describe(self) -> dict[str, Any]:
        """Name, origin and licence for the data card."""
        source = self.source
        return {"name": source.name, "kind": source.kind, **self.origin(), "licence": source.licence}

    def digests(self, files: Iterable[Path]) -> dict[str, str]:
        return {path.relative_to(self.data_dir).as_posix(): hash_file(path) for path in files}

    def error(self, problem: str) -> ValueError:
        return ValueError(f"source {self.source.name}: {problem}")
