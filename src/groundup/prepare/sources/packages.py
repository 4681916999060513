"""Data packages from the package index: files located through importlib.metadata, never imported."""

import json
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from groundup.core.formats.hashing import hash_integer
from groundup.core.formats.records import Article, Conversation, Record, Turn
from groundup.prepare.sources.reader import Reader
from groundup.prepare.sources.rows import BadRow, RowError, sample
from groundup.runner.files import hash_file
from groundup.runner.params.prepare import PackageSource

# The rating form of chitchat-dataset starts at 5 for every question, so 5, 5, 5 means that nobody rated.
FORM_DEFAULT = {"witty": 5, "interesting": 5, "upbeat": 5}
RATINGS = range(1, 11)
NO_TOPIC = "Uncategorized"


class Package(Reader[PackageSource]):
    @property
    def place(self) -> str:
        return self.source.path

    @property
    def path(self) -> Path:
        return Path(str(distribution(self.source.package).locate_file(self.source.path)))

    def origin(self) -> dict[str, Any]:
        source = self.source
        return {"package": source.package, "version": source.version, "sha256": {source.path: source.sha256}}

    def check(self) -> None:
        if problem := self._problem():
            raise self.error(problem)

    def _problem(self) -> str | None:
        """Why the installed package cannot be used and how to repair it; None if it can."""
        source = self.source
        remedy = f"run `pip install {source.package}=={source.version}`"
        again = f"{remedy[:-1]} --force-reinstall --no-deps`"
        try:
            version = distribution(source.package).version
        except PackageNotFoundError:
            return f"the package {source.package} is not installed; {remedy}"
        if version != source.version:
            return f"{source.package} is {version}, params.yaml pins {source.version}; {remedy}"
        if Path(source.path).is_absolute() or ".." in Path(source.path).parts:
            return f"path {source.path} leads out of the package; correct `path`"
        if not self.path.is_file():
            return f"{source.package} {version} has no file {source.path}; correct `path`, or {again}"
        if (found := hash_file(self.path)) != source.sha256:
            return (
                f"sha256 of {source.path} is {found}, params.yaml pins {source.sha256}: the file was changed; {again}"
            )
        return None

    def read(self) -> Iterator[Record | BadRow]:
        # Each file is one JSON object (40 MB at most), parsed at once: the only place where prepare holds a source.
        source = self.source
        try:
            entries: Any = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise self.error(f"{source.path} is not JSON ({error}); correct `path`") from None
        if not isinstance(entries, dict):
            raise self.error(
                f"{source.path} holds a {type(entries).__name__}, not an object of named entries: it is not of the "
                f"format {source.format}; correct `format` or `path`"
            )
        names = list(entries)
        if source.max_documents is not None:
            # By hash, but not that of the splits: the first N must have the split shares of the whole.
            names = sorted(names, key=partial(hash_integer, self.params.seed, "subset"))[: source.max_documents]
        convert = to_conversation if source.format == "rated_conversations" else to_article
        for number, name in enumerate(names, start=1):
            try:
                yield convert(source.name, name, entries[name])
            except RowError as error:
                yield BadRow(source.path, number, error.reason, str(error), sample({name: entries[name]}))
            except KeyError as error:
                yield BadRow(source.path, number, "missing_column", f"no {error}", sample({name: entries[name]}))
            except (TypeError, AttributeError) as error:
                yield BadRow(source.path, number, "wrong_type", str(error), sample({name: entries[name]}))


def to_conversation(source: str, name: str, entry: dict[str, Any]) -> Conversation:
    messages = [message for group in entry["messages"] for message in group]
    if not all(isinstance(message["text"], str) for message in messages):
        raise RowError("wrong_type", "the text of a message must be text")
    speakers = {sender: i for i, sender in enumerate(dict.fromkeys(m["sender"] for m in messages))}
    turns: list[Turn] = [(speakers[message["sender"]], message["text"]) for message in messages]
    ratings = {key: to_rating(value) for key, value in sorted((entry.get("ratings") or {}).items())}
    return Conversation(
        id=f"{source}/{name}",
        source=source,
        opening=entry.get("prompt") or None,
        turns=turns,
        ratings=None if not ratings or ratings == FORM_DEFAULT else ratings,
        speakers=list(map(str, speakers)),
    )


def to_rating(value: Any) -> int:
    """A whole number in the form's range; text with such a number is accepted."""
    rating = int(value) if isinstance(value, str) and value.isdecimal() else value
    if type(rating) is not int or rating not in RATINGS:
        raise RowError("rating", f"a rating must be a whole number from 1 to 10, got {value!r}")
    return rating


def to_article(source: str, name: str, entry: dict[str, str]) -> Article:
    if not all(isinstance(entry[key], str) for key in ("title", "extract", "topic")):
        raise RowError("wrong_type", "title, extract and topic must be text")
    return Article(
        id=f"{source}/{name}",
        source=source,
        title=entry["title"],
        description=entry["description"] or "",
        topic=None if entry["topic"] == NO_TOPIC else entry["topic"],
        extract=entry["extract"],
    )
