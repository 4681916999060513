"""Reports of earlier stages, taken into this one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt


@dataclass(frozen=True)
class Card:
    title: str
    html: str
    markdown: str  # headings two levels down, to fit below ours


def read_cards(directories: Mapping[str, Path], titles: Mapping[str, str]) -> list[Card]:
    """The report.md of each stage that wrote one."""
    # Raw HTML and pictures stay out: the cards quote text of the corpus, and the page must load nothing.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    cards = []
    for stage, directory in directories.items():
        path = directory / "report.md"
        if path.exists():
            text = path.read_text(encoding="utf-8")
            lowered = re.sub(r"^(#{1,4}) ", r"##\1 ", text, flags=re.MULTILINE)
            cards.append(Card(titles.get(stage, stage), markdown.render(text), lowered.strip()))
    return cards
