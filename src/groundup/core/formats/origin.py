"""The open model that a model comes from, in its card: in the head, as hubs read it, and in words.

From scratch there is none, and cards stay as they are.
"""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from groundup.runner.base import Base

HEAD, END = "---\n", "---\n"
REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)@\w+")  # of a hub, at a commit
SECTION = """
## The open model that it comes from

{name}, which `groundup fetch {source}` brings, revision {revision}. Its licence is {licence}; what that asks of models
made from it holds for this one. The text and conversations that it was trained on here have their own licences, in the
tables of artifacts/reports/prepare/report.md.
"""


def with_base(card: str, base: Base | None) -> str:
    """The card of what is made from this open model; None: from scratch."""
    if base is None:
        return card
    return _with_origin(card, base.model_dump(include={"name", "source", "revision", "licence"}))


def as_parent(card: str, parent: Path) -> str:
    """The card of a model made from the one in this folder, with the same origin."""
    origin = origin_of(parent)
    return card if origin is None else _with_origin(card, origin)


def origin_of(folder: Path) -> dict[str, Any] | None:
    """name, source, revision and licence of the open model that the one in this folder comes from."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    found: dict[str, Any] | None = ModelCard(text).data.get("origin") if text.startswith(HEAD) else None
    return found


def _with_origin(card: str, origin: dict[str, Any]) -> str:
    repository = REPOSITORY.fullmatch(origin["source"])  # none of a folder or a package
    added = ModelCardData(
        license=origin["licence"].lower(),  # as hubs spell SPDX names
        base_model=repository[1] if repository else None,
        origin=origin,
    )
    section = SECTION.format_map(origin)
    head, body = card.removeprefix(HEAD).split(END, 1)
    return f"{HEAD}{head}{added.to_yaml()}\n{END}{body}{section}"
