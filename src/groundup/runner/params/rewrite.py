"""params.yaml with other values: what does not change, comments and layout included, stays byte for byte."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from groundup.runner.files import write_text
from groundup.runner.params.load import ParamsError, parse_params, read_params


@dataclass(frozen=True)
class Change:
    """One value of params.yaml; None stands for null and for a key that was not there."""

    key: str  # dotted
    old: Any
    new: Any


def read_layout(path: Path) -> CommentedMap:
    """A checked file with its comments."""
    with path.open(encoding="utf-8") as file:
        return _yaml().load(file)


def rewrite(path: Path, preset: Path, derived: Mapping[str, Any]) -> list[Change]:
    """Give params.yaml the preset's values, of which `derived` replaces some by dotted key; what changed.

    ParamsError with every problem, and the file as it was.
    """
    read_params(path)
    read_params(preset)
    layout, values = read_layout(path), read_layout(preset)
    if not isinstance(layout, CommentedMap):
        raise ParamsError(f"{path} holds no sections: `git checkout -- {path.name}` brings the committed one back")
    _set(values, derived)
    before = _dump(layout)
    changes: list[Change] = []
    _merge(layout, values, "", changes)
    text = _in_own_layout(path.read_text(encoding="utf-8"), before, _dump(layout))
    parse_params(YAML(typ="safe", pure=True).load(text), f"what {path} would become")
    if changes:
        write_text(path, text)
    return changes


def _set(values: Any, derived: Mapping[str, Any]) -> None:
    for key, value in derived.items():
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section[name]
        section[last] = value


def _merge(layout: CommentedMap, values: Mapping[str, Any], prefix: str, changes: list[Change]) -> None:
    for key, new in values.items():
        old = layout.get(key)
        if isinstance(old, CommentedMap) and isinstance(new, Mapping):
            _merge(old, new, f"{prefix}{key}.", changes)
        elif key not in layout or old != new:
            changes.append(Change(f"{prefix}{key}", old, new))
            layout[key] = new


def _in_own_layout(own: str, before: str, after: str) -> str:
    """`after` with the lines of `own` where `before`, the same as ruamel writes it, did not change."""
    own_lines, old, new = (text.splitlines(keepends=True) for text in (own, before, after))
    if len(own_lines) != len(old):
        return after
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return "".join(line for tag, i, j, k, m in blocks for line in (own_lines[i:j] if tag == "equal" else new[k:m]))


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _dump(layout: CommentedMap) -> str:
    buffer = io.StringIO()
    _yaml().dump(layout, buffer)
    return buffer.getvalue()
