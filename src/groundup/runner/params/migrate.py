"""Migrate a params file of an older version: each key moves to its new place; values and comments stay."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.runner.params.layout import PLAIN, Layout, as_text, reread
from groundup.runner.params.load import Params, ParamsError, parse_params, read_sections
from groundup.runner.params.moved import ADDED, MADE, MOVED

MISSING = object()


@dataclass(frozen=True)
class Move:
    old: str  # empty for a key that is added
    new: str
    value: Any


@dataclass(frozen=True)
class Migration:
    text: str
    moves: list[Move]
    params: Params


def migrate(path: Path) -> Migration:
    """The migrated file; ParamsError names every remaining problem."""
    values = read_sections(path)
    layout = Layout(path.read_text(encoding="utf-8"))
    added: dict[str, list[str]] = defaultdict(list)  # section -> lines
    moves: list[Move] = []

    def add(old: str, new: str, value: Any, lines: list[str]) -> None:
        added[new.rpartition(".")[0]] += lines
        moves.append(Move(old, new, value))

    for new, value in ADDED.items():
        if _at(values, new) is MISSING:
            add("", new, value, _entry(new, value))
    for old, places in MOVED.items():
        if (value := _at(values, old)) is not MISSING:
            lines = layout.cut(old)
            for new in places:
                add(old, new, value, _renamed(lines, _name(old), _name(new)))
    for new, (olds, make) in MADE.items():
        found = [_at(values, old) for old in olds]
        if MISSING not in found:
            comments = [line[line.index("#") :] for old in olds for line in layout.cut(old) if "#" in line]
            made = make(*found)
            add(" + ".join(olds), new, made, [*comments, *_entry(new, made)])
    for section, lines in added.items():
        layout.add(section, lines)
    rewritten = reread(layout.text)
    params = parse_params(rewritten, f"what {path} would become")
    if any(_at(rewritten, move.new) != move.value for move in moves):
        raise ParamsError(PLAIN)
    return Migration(layout.text, moves, params)


def _at(values: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(values, dict) or name not in values:
            return MISSING
        values = values[name]
    return values


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _entry(key: str, value: Any) -> list[str]:
    text = as_text(value, as_block=True)
    lines = text.split("\n")
    return [f"{_name(key)}: {text}"] if len(lines) == 1 else [f"{_name(key)}:", *(f"  {line}" for line in lines)]


def _renamed(lines: list[str], old: str, new: str) -> list[str]:
    """The lines of a key, with comments above and values below, under its new name."""
    index = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [*lines[:index], lines[index].replace(old, new, 1), *lines[index + 1 :]]
