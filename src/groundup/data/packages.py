"""Data packages from the package index: files found through importlib.metadata, never imported."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from groundup.data.hashing import hash_integer
from groundup.data.records import Article, Conversation, Record, Turn
from groundup.frame.params.prepare import PackageSource

# The rating form of chitchat-dataset starts at 5 for every question: 5, 5, 5 says that nobody moved it.
FORM_DEFAULT = {"witty": 5, "interesting": 5, "upbeat": 5}
NO_TOPIC = "Uncategorized"


def package_problem(source: PackageSource) -> str | None:
    """What is wrong with the installed package and how to put it right, or None."""
    remedy = f"run `pip install {source.package}=={source.version}`"
    again = f"{remedy[:-1]} --force-reinstall --no-deps`"
    try:
        version = distribution(source.package).version
    except PackageNotFoundError:
        return f"source {source.name}: the package {source.package} is not installed; {remedy}"
    if version != source.version:
        return f"source {source.name}: {source.package} is {version}, params.yaml pins {source.version}; {remedy}"
    path = package_path(source)
    if not path.is_file():
        return (
            f"source {source.name}: {source.package} {version} has no file {source.path}; correct `path`, or {again}"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        return (
            f"source {source.name}: sha256 of {source.path} is {found}, params.yaml pins {source.sha256}: "
            f"the file was changed; {again}"
        )
    return None


def package_path(source: PackageSource) -> Path:
    return Path(str(distribution(source.package).locate_file(source.path)))


def read_package(source: PackageSource, seed: int) -> Iterator[Record]:
    # Each file is one JSON object (40 MB at most), so it is parsed at once: only here does prepare hold a source.
    entries: dict[str, Any] = json.loads(package_path(source).read_text(encoding="utf-8"))
    names = list(entries)
    if source.max_documents is not None:
        # Not the order of the splits: the first N must have the shares of the whole.
        names = sorted(names, key=partial(hash_integer, seed, "subset"))[: source.max_documents]
    for name in names:
        if source.format == "rated_conversations":
            yield to_conversation(source.name, name, entries[name])
        else:
            yield to_article(source.name, name, entries[name])


def to_conversation(source: str, name: str, entry: dict[str, Any]) -> Conversation:
    messages = [message for group in entry["messages"] for message in group]
    speakers = {sender: i for i, sender in enumerate(dict.fromkeys(m["sender"] for m in messages))}
    turns: list[Turn] = [(speakers[message["sender"]], message["text"]) for message in messages]
    ratings = {key: int(value) for key, value in sorted((entry.get("ratings") or {}).items())}
    return Conversation(
        id=f"{source}/{name}",
        source=source,
        opening=entry.get("prompt") or None,
        turns=turns,
        ratings=None if not ratings or ratings == FORM_DEFAULT else ratings,
    )


def to_article(source: str, name: str, entry: dict[str, str]) -> Article:
    return Article(
        id=f"{source}/{name}",
        source=source,
        title=entry["title"],
        description=entry["description"] or "",
        topic=None if entry["topic"] == NO_TOPIC else entry["topic"],
        extract=entry["extract"],
    )
