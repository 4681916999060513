"""Reports of earlier stages, taken into this one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from groundup.evaluate.report.curves import data_uri


@dataclass(frozen=True)
class Card:
    title: str
    html: str
    markdown: str  # headings two levels down, to fit below ours
    pictures: Mapping[str, bytes]  # PNG by the file name that the markdown gives it


def read_cards(directories: Mapping[str, Path], titles: Mapping[str, str]) -> list[Card]:
    """The report.md of each stage that wrote one."""
    # Raw HTML and others' pictures stay out: the cards quote text of the corpus, and the page must load nothing.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("image", _own_picture)
    cards = []
    for stage, directory in directories.items():
        path = directory / "report.md"
        if path.exists():
            text = path.read_text(encoding="utf-8")
            pictures = {file.name: file.read_bytes() for file in sorted(directory.glob("*.png"))}
            lowered = re.sub(r"^(#{1,4}) ", r"##\1 ", text, flags=re.MULTILINE)
            for name in pictures:
                lowered = lowered.replace(f"]({name})", f"]({_file_name(stage, name)})")
            cards.append(
                Card(
                    title=titles.get(stage, stage),
                    html=markdown.render(text, {"pictures": pictures}),
                    markdown=lowered.strip(),
                    pictures={_file_name(stage, name): png for name, png in pictures.items()},
                )
            )
    return cards


def _file_name(stage: str, name: str) -> str:
    return f"{stage}_report_{name}"  # curves are called STAGE_MEASURE


def _own_picture(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: dict[str, Any]
) -> str:
    """A picture that lies beside the report, inside the page; of any other the words that describe it."""
    words = escape(tokens[index].content)
    png = env["pictures"].get(tokens[index].attrs["src"])
    return words if png is None else f'<img src="{data_uri(png)}" alt="{words}">'
