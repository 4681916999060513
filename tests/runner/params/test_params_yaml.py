"""params.yaml explains itself."""

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode

from tests.conftest import ROOT


def unexplained(text: str) -> list[str]:
    """Keys without a comment beside or above them; lists are explained as a whole."""
    lines = text.splitlines()

    def walk(node: MappingNode, prefix: str) -> list[str]:
        found = []
        for name, value in node.value:
            if isinstance(value, MappingNode) and not value.flow_style:
                found += walk(value, f"{prefix}{name.value}.")
            else:
                above, beside = lines[name.start_mark.line - 1].lstrip(), lines[name.start_mark.line]
                found += [] if above.startswith("#") or "  # " in beside else [prefix + name.value]
        return found

    return walk(YAML(typ="safe", pure=True).compose(text), "")


def test_every_key_is_explained() -> None:
    assert unexplained((ROOT / "params.yaml").read_text(encoding="utf-8")) == []


def test_a_key_without_a_comment_is_found() -> None:
    text = "a:\n  # above\n  b: 1\n  c: [2]  # beside\n  d: 3\ne: {f: 1}\n"
    assert unexplained(text) == ["a.d", "e"]
