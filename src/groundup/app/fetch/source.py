"""Where a model comes from, and what every place has in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class FetchError(ValueError):
    """The model cannot be fetched; the message says why and what to do."""


@dataclass(frozen=True)
class Origin:
    """revision: a commit or a digest; None for that of the files. licence: as the source states it, or None."""

    source: str
    revision: str | None
    licence: str | None
    gated: bool = False  # its owner asks people to accept the licence first


class Source(Protocol):
    @property
    def name(self) -> str:
        """Of the folder in models/, unless the user gives another."""

    def origin(self) -> Origin:
        """FetchError if there is no such model. No weights are downloaded yet."""

    def write(self, folder: Path, downloads: Path) -> None:
        """Fill an empty folder. `downloads` stays after an interruption, so that the next try continues there."""
