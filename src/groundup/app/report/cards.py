"""Include the stages' own reports in the page."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from groundup.app.report.curves import data_uri


def read_card(folder: Path) -> str | None:
    """The report.md of a stage as HTML; None if it wrote none."""
    path = folder / "report.md"
    if not path.exists():
        return None
    # No raw HTML and no external pictures: the cards quote text of the corpus, and the page must load nothing.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("image", _own_picture)
    return markdown.render(path.read_text(encoding="utf-8"), {"folder": folder})


def _own_picture(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: dict[str, Any]
) -> str:
    """Embed a picture that is beside the report; for any other, show only its description."""
    words, name = escape(tokens[index].content), str(tokens[index].attrs["src"])
    if name not in {file.name for file in sorted(env["folder"].glob("*.png"))}:
        return words
    return f'<img src="{data_uri((env["folder"] / name).read_bytes())}" alt="{words}">'
