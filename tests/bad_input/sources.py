"""Cases of prepare, and sources that it cannot read."""

from pathlib import Path
from typing import Any

from tests.bad_input.conftest import Case
from tests.bad_input.spoil import Spoil, files, set_param

SOURCES = "prepare.sources"
FIX = "Correct or remove them"
SENTENCE = "This is a perfectly fine sentence about nothing much."


def prepare(name: str, spoil: Spoil, says: str) -> Case:
    return Case(name, "prepare", spoil, says)


def link_outside(root: Path) -> None:
    (root.parent / "outside.txt").write_text("secret", encoding="utf-8")
    (root / "data/link.txt").symlink_to(root.parent / "outside.txt")
    files("link.txt")(root)


def hub(dataset: str, revision: str = "a" * 40, **changes: Any) -> Spoil:
    source = {
        "kind": "hub", "name": "web", "dataset": dataset, "config": None, "split": "train", "revision": revision,
        "yields": "text", "text_column": "text", "max_rows": None, "licence": "x",
    }  # fmt: skip
    return set_param(SOURCES, [source | changes])
