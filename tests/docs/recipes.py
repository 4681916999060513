"""Recipes of docs/howto.md, applied to a copy of the tree.

A block of a recipe is under a line that names its file: ``Create `FILE`:`` gives the whole file, ``In `FILE`:``
edits as a diff, separated by `@@`. The old lines of an edit must be in the file exactly once.
"""

import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/howto.md"
BLOCK = re.compile(r"^ *(Create|In) `([^`]+)`:\n\n( *)```\w+\n(.*?)^\3```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    is_new: bool
    path: str
    text: str


def read_recipe(heading: str, page: str | None = None) -> list[Block]:
    page = PAGE.read_text(encoding="utf-8") if page is None else page
    (section,) = (s for s in page.split("\n## ") if s.startswith(f"{heading}\n"))
    blocks = [
        Block(verb == "Create", path, textwrap.dedent(text) if verb == "Create" else _without(indent, text))
        for verb, path, indent, text in BLOCK.findall(section)
    ]
    if not blocks or len(blocks) != section.count("```") // 2:
        raise ValueError(f"{heading}: each block must be under a line that names its file")
    return blocks


def _without(indent: str, text: str) -> str:
    """Not dedent, which would remove the leading space of a diff's context lines."""
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))


def apply(blocks: list[Block], root: Path) -> None:
    for block in blocks:
        path = root / block.path
        if block.is_new:
            if path.exists():
                raise ValueError(f"{block.path} already exists")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        else:
            path.write_text(edited(path.read_text(encoding="utf-8"), block.text, block.path), encoding="utf-8")


def edited(text: str, diff: str, path: str) -> str:
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] or line for line in lines if line[0] != drop) for drop in "+-")
        if f"\n{text}".count(f"\n{before}") != 1:
            raise ValueError(f"{path} must have these lines exactly once:\n{before}")
        text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]
    return text


def changed(root: Path) -> dict[str, str]:
    """File -> its state: ?? is new, M is changed."""
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return {line[3:]: line[:2].strip() for line in listed.splitlines()}


def ruff_problems(root: Path, files: list[str]) -> str:
    found = ""
    for command in (["check", "-q"], ["format", "--check", "-q"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *files], cwd=root, capture_output=True, text=True
        )
        found += run.stdout + run.stderr if run.returncode else ""
    return found
