"""Links of the pages lead to files and headings, and the tests and sources that they name are there."""

import re
from pathlib import Path

import pytest

from tests.contract.imports import ROOT

PAGES = [
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "data/*.md",
        "presets/*.md",
        "demo/*.md",
        "mlflow/**/*.md",
        "bench/*/README.md",
    )
    for path in sorted(ROOT.glob(pattern))
]
CODE = re.compile(r"```.*?```", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:src|tests|stages|bench)/[\w/.]+)`")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    headings = HEADING.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    found = []
    for link in LINK.findall(text):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            found.append(link)
    return found + [path for path in PATH.findall(text) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_nothing_that_a_page_names_is_missing(page: Path) -> None:
    expected = {"stages/NAME.py"}  # a pattern
    made = set(re.findall(r"Create `([^`]+)`", page.read_text(encoding="utf-8")))  # by a recipe
    assert set(broken(page)) <= expected | made


def test_what_is_missing_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A b\n\n[x](b.md) [y](#a-b) [z](#c) `tests/nowhere.py` [w](https://a.org)\n")
    assert broken(tmp_path / "a.md") == ["b.md", "#c", "tests/nowhere.py"]
