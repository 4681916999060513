"""params.yaml with a preset's values: only what changes is touched, and nothing where something is wrong."""

from pathlib import Path

import pytest

from groundup.runner.params import ParamsError, load_params
from groundup.runner.params.rewrite import Change, rewrite

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "presets/smoke.yaml"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes(SMOKE.read_bytes())
    return path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_nothing_to_change_leaves_every_byte(params: Path) -> None:
    inode = params.stat().st_ino
    assert rewrite(params, SMOKE, {}) == []
    assert params.read_bytes() == SMOKE.read_bytes()
    assert params.stat().st_ino == inode


def test_a_change_is_one_line_and_comments_stay(params: Path) -> None:
    replace(params, "  num_steps: 40\n", "  # mine\n  num_steps: 44   # a few more\n")
    before = params.read_text().splitlines()
    assert rewrite(params, SMOKE, {"pretrain.batch_size": 2}) == [
        Change("pretrain.num_steps", 44, 40),
        Change("pretrain.batch_size", 4, 2),
    ]
    after = params.read_text().splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [
        ("  num_steps: 44   # a few more", "  num_steps: 40   # a few more"),
        ("  batch_size: 4", "  batch_size: 2"),
    ]


def test_a_preset_can_be_had_back(params: Path) -> None:
    laptop = ROOT / "presets/laptop.yaml"
    assert {change.key for change in rewrite(params, laptop, {})} >= {
        "model.hidden_size",
        "tokenizer.curve_vocab_sizes",
    }
    assert load_params(params) == load_params(laptop)
    rewrite(params, SMOKE, {})
    assert load_params(params) == load_params(SMOKE)
    assert params.read_text().startswith("# The whole pipeline in about two minutes")


def test_other_sources_are_replaced_and_reported(params: Path) -> None:
    text = params.read_text()
    start, end = text.index("    - kind: package"), text.index("  max_row_bytes")
    own = "    - {kind: files, name: own, paths: [a.txt], yields: text, text_column: text, licence: own}\n"
    params.write_text(text[:start] + own + text[end:])
    (change,) = rewrite(params, SMOKE, {})
    assert change.key == "prepare.sources"
    assert [source["name"] for source in change.old] == ["own"]
    assert [source["name"] for source in change.new] == ["chitchat", "wikipedia"]


def test_a_missing_key_comes_back(params: Path) -> None:
    replace(params, "  decay_fraction: 0.4\n", "")
    assert rewrite(params, SMOKE, {}) == [Change("pretrain.decay_fraction", None, 0.4)]
    assert load_params(params) == load_params(SMOKE)


def test_all_problems_at_once_and_the_file_as_it_was(params: Path) -> None:
    replace(params, "  num_steps: 40\n", "  num_steps: 41\n  momentum: 0.9\n")
    before = params.read_bytes()
    with pytest.raises(ParamsError) as error:
        rewrite(params, SMOKE, {"model.num_heads": 0, "sft.learning_rate": -1.0})
    assert "3 problems" in str(error.value)
    for part in ("pretrain.momentum: unknown key", "model.num_heads", "sft.learning_rate"):
        assert part in str(error.value)
    assert params.read_bytes() == before
    assert list(params.parent.iterdir()) == [params]


@pytest.mark.parametrize(
    ("content", "message"), [(b"a: [1", "not valid YAML"), (b"", "holds no sections"), (b"\xff", "not valid UTF-8")]
)
def test_a_file_that_cannot_be_read_is_refused(params: Path, content: bytes, message: str) -> None:
    params.write_bytes(content)
    with pytest.raises(ParamsError, match=message):
        rewrite(params, SMOKE, {})
    assert params.read_bytes() == content
