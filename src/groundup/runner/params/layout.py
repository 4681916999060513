"""A params file as text: what does not change, comments included, stays byte for byte.

ruamel's own round trip ties the comment above a key to the key before it and puts comments in other columns.
"""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from groundup.runner.params.load import ParamsError

INDENT = 2
NULL = "tag:yaml.org,2002:null"
PLAIN = "params.yaml cannot be rewritten: write one key per line, without anchors and aliases, then try again"


class Layout:
    """Collects edits of keys, given by dotted name; `text` applies them."""

    def __init__(self, text: str) -> None:
        self._text = text if text.endswith("\n") else text + "\n"
        self._lines = self._text.split("\n")
        self._root: Node = YAML(typ="safe", pure=True).compose(self._text)
        self._edits: list[tuple[int, int, str]] = []  # start, end, replacement

    def set(self, key: str, value: Any) -> None:
        """Replace the value of a key, with any comments inside it; add the key if it is missing."""
        section, _, last = key.rpartition(".")
        if not self._has(key):
            self.add(section, [f"{last}: {as_text(value, as_block=False)}"])
            return
        name, node = self._find(key)
        start, text = node.start_mark.index, as_text(value, as_block=_is_block(node))
        if "\n" not in text and not self._text[name.end_mark.index + 1 : start].strip():
            start, text = name.end_mark.index + 1, f" {text}"  # on the key's line, even if the old value was below it
        self._edits.append((start, self._end(node), text.replace("\n", "\n" + " " * node.start_mark.column)))

    def cut(self, key: str) -> list[str]:
        """Remove a key with the comments directly above it and all below it; returns its lines, without indent."""
        name, node = self._find(key)
        first, last = name.start_mark.line, self._line(self._end(node))
        while first and self._lines[first - 1].lstrip().startswith("#"):
            first -= 1
        self._edits.append((self._start(first), self._start(last + 1), ""))
        indent = name.start_mark.column
        return [line[min(indent, _indent(line)) :] for line in self._lines[first : last + 1]]

    def add(self, section: str, lines: list[str]) -> None:
        """Append lines, given without indent, to a section, which is created if it is missing."""
        node, indent, missing = self._root, 0, [name for name in section.split(".") if name]
        while missing and missing[0] in (below := _by_name(node)):
            node = below[missing.pop(0)][1]
            if not _is_block(node):
                raise ParamsError(PLAIN)
            indent = node.value[0][0].start_mark.column
        for name in reversed(missing):
            lines = [f"{name}:", *(" " * INDENT + line for line in lines)]
        place = self._start(self._line(self._end(node)) + 1)
        self._edits.append((place, place, "".join(f"{' ' * indent}{line}".rstrip() + "\n" for line in lines)))

    @property
    def text(self) -> str:
        """The edited text. Where sections end on the same line, additions to the inner section come first."""
        parts, at = [], 0
        for start, end, text in sorted(self._edits, key=lambda edit: (edit[0], -_indent(edit[2]))):
            parts += [self._text[at:start], text]
            at = max(at, end)
        return "".join([*parts, self._text[at:]])

    def _find(self, key: str) -> tuple[ScalarNode, Node]:
        node = self._root
        for name in key.split("."):
            if not _is_block(node):
                raise ParamsError(PLAIN)
            found = _by_name(node)[name]
            node = found[1]
        return found

    def _has(self, key: str) -> bool:
        node = self._root
        for name in key.split("."):
            if not isinstance(node, MappingNode) or name not in _by_name(node):
                return False
            node = _by_name(node)[name][1]
        return True

    def _end(self, node: Node) -> int:
        """The index after its last character; ruamel's own end mark includes the comments below a block."""
        if _is_block(node):
            last = node.value[-1]
            return self._end(last[1] if isinstance(node, MappingNode) else last)
        start: int = node.start_mark.index
        return start + len(self._text[start : node.end_mark.index].rstrip())

    def _start(self, line: int) -> int:
        return sum(len(text) + 1 for text in self._lines[:line])

    def _line(self, index: int) -> int:
        return self._text.count("\n", 0, index)


def reread(text: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        raise ParamsError(PLAIN) from None


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _by_name(node: Node) -> dict[str, tuple[ScalarNode, Node]]:
    return {name.value: (name, value) for name, value in node.value}


def _is_block(node: Node) -> bool:
    return isinstance(node, CollectionNode) and not node.flow_style


def as_text(value: Any, *, as_block: bool) -> str:
    """YAML on one line, or a block of lines for a list of sections; numbers of a loaded file keep their notation."""
    yaml = YAML()
    yaml.width = 1 << 20
    as_block = as_block and isinstance(value, list) and any(isinstance(item, dict) for item in value)
    yaml.default_flow_style = not as_block
    # The first access creates the representer, with the settings so far.
    yaml.representer.add_representer(type(None), lambda representer, _: representer.represent_scalar(NULL, "null"))
    buffer = io.StringIO()
    yaml.dump(value if as_block else [value], buffer)
    text = buffer.getvalue().rstrip("\n")
    return text if as_block else text[1:-1]
