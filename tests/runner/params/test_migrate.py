"""An old params.yaml is taken over: every value and every comment, in its new place."""

from pathlib import Path
from typing import Any

import pytest

from groundup.runner.params import Params, ParamsError
from groundup.runner.params import migrate as module
from groundup.runner.params.layout import reread
from groundup.runner.params.load import parse_params
from groundup.runner.params.migrate import Move, migrate
from groundup.runner.params.moved import ADDED, MADE, MOVED
from groundup.runner.params.section import Section
from tests.presets import preset, preset_text

OLD = """\
tokenizer:
  # as many as the text allows
  vocab_size: 1024  # mine
  min_frequency: 2
  curve_vocab_sizes:
    - 512  # half
    - 1024
  shard_tokens: 100000

# The shape.
model:
  context_length: 128
  hidden_size: 32

  # two are enough
  # for a test
  num_layers: 2   # not three
  num_heads: 2
  num_kv_heads: 2
  intermediate_size: 64
  position: rope
  attention: softmax
  rope_theta: 1.0e+4
  tie_embeddings: true
  initializer_range: 0.02

# Training.
pretrain:
"""
NEW = """\
tokenizer:
  shard_tokens: 100000
  scratch:
    # as many as the text allows
    vocab_size: 1024  # mine
    min_frequency: 2
    curve_vocab_sizes:
      - 512  # half
      - 1024

# The shape.
model:
  context_length: 128

  base: null
  scratch:
    hidden_size: 32
    # two are enough
    # for a test
    num_layers: 2   # not three
    num_heads: 2
    num_kv_heads: 2
    intermediate_size: 64
    position: rope
    attention: softmax
    rope_theta: 1.0e+4
    tie_embeddings: true
    initializer_range: 0.02

# Training.
pretrain:
"""


def split_smoke() -> tuple[str, str]:
    """smoke's params before the sections that moved, and from pretrain on."""
    text = preset_text("smoke")
    return text[: text.index("tokenizer:")], text[text.index("pretrain:\n") + len("pretrain:\n") :]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    before, after = split_smoke()
    path = tmp_path / "params.yaml"
    path.write_text(before + OLD + after, encoding="utf-8")
    return path


def test_keys_move_with_their_comments_and_nothing_else_changes(old: Path) -> None:
    before, after = split_smoke()
    migration = migrate(old)
    assert migration.text == before + NEW + after
    assert migration.params == preset("smoke")
    width = Move("model.hidden_size", "model.scratch.hidden_size", 32)
    assert migration.moves[:2] == [Move("", "model.base", None), width]
    assert len(migration.moves) == 14


def test_an_old_key_is_an_error_that_names_its_new_place(old: Path) -> None:
    with pytest.raises(ParamsError) as error:
        parse_params(reread(old.read_text(encoding="utf-8")), "params.yaml")
    lines = str(error.value).splitlines()
    assert lines[0] == "13 problems in params.yaml:"
    assert (
        "  model.num_layers: is model.scratch.num_layers now; `groundup configure --migrate` rewrites the file"
        in lines
    )
    assert not any("missing" in line for line in lines)


def test_a_file_of_today_stays(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(preset_text("gpu"), encoding="utf-8")
    migration = migrate(path)
    assert (migration.text, migration.moves) == (preset_text("gpu"), [])


def test_half_moved_by_hand(old: Path) -> None:
    """A section that is there already takes the rest."""
    text = old.read_text(encoding="utf-8")
    old.write_text(
        text.replace("  hidden_size: 32\n", "  scratch:\n    hidden_size: 32  # by hand\n"), encoding="utf-8"
    )
    migration = migrate(old)
    assert "    hidden_size: 32  # by hand\n    # two are enough\n" in migration.text
    assert migration.params == preset("smoke")


def test_the_problems_that_are_left_are_named(old: Path) -> None:
    text = old.read_text(encoding="utf-8").replace("num_heads: 2", "num_heads: 0", 1)
    old.write_text(text.replace("  seed: 1 ", "  sead: 1 "), encoding="utf-8")
    with pytest.raises(ParamsError) as error:
        migrate(old)
    for part in ("model.scratch.num_heads: ", "pretrain.seed: missing", "pretrain.sead: unknown key"):
        assert part in str(error.value)


def test_a_section_in_braces_is_refused(old: Path) -> None:
    text = old.read_text(encoding="utf-8")
    start, end = text.index("model:"), text.index("# Training.")
    old.write_text(text[:start] + "model: {context_length: 128, hidden_size: 32}\n" + text[end:], encoding="utf-8")
    with pytest.raises(ParamsError, match="write one key per line"):
        migrate(old)


def test_one_value_for_several_keys_and_one_of_several(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table can say besides a new name."""
    monkeypatch.setattr(module, "MOVED", MOVED | {"pretrain.beta1": ("pretrain.scratch.beta_1", "sft.beta")})
    made: dict[str, Any] = {"pretrain.betas": (("pretrain.beta2", "pretrain.seed"), lambda a, b: [{"a": a}, {"b": b}])}
    monkeypatch.setattr(module, "MADE", made)
    monkeypatch.setattr(module, "parse_params", lambda values, origin: None)
    old.write_text(old.read_text(encoding="utf-8").replace("  beta2:", "  # above\n  beta2:"), encoding="utf-8")
    text = migrate(old).text
    assert "  scratch:\n    beta_1: 0.9  # AdamW: memory of the gradient\n" in text
    assert "  beta: 0.9  # AdamW: memory of the gradient\n\nreward:" in text
    assert "  # above\n  # AdamW: memory of its square\n  # of weights and of the order of rows\n  betas:\n" in text
    assert reread(text)["pretrain"]["betas"] == [{"a": 0.95}, {"b": 1}]


def test_the_table_leads_from_keys_that_are_gone_to_keys_that_are_there() -> None:
    known = set(keys(Params))
    places = {place for new in MOVED.values() for place in new} | set(MADE) | set(ADDED)
    assert places <= known
    assert not known & {*MOVED, *(old for olds, _ in MADE.values() for old in olds)}


def keys(section: type[Section], prefix: str = "") -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        found.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found += keys(field.annotation, f"{prefix}{name}.")
    return found
