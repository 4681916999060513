"""Presets: overlays that always give the same params.yaml, and change only the values that differ."""

from pathlib import Path
from typing import Any

import pytest

from groundup.app.plan.sizing import resize
from groundup.runner.params import ParamsError, load_params
from groundup.runner.params.layout import reread
from groundup.runner.params.presets import Change, load_preset, preset_names, with_preset
from tests.conftest import ROOT
from tests.presets import preset, preset_text

PRESETS = ("cluster", "evening", "gpu", "laptop", "open", "open-lunch", "smoke")
OWN = "    - {kind: files, name: own, paths: [a.txt], yields: text, text_column: text, licence: own}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout on laptop."""
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path


def text_of(root: Path) -> str:
    return (root / "params.yaml").read_text(encoding="utf-8")


def write(root: Path, text: str) -> None:
    (root / "params.yaml").write_text(text, encoding="utf-8")


def replace(root: Path, old: str, new: str) -> None:
    assert text_of(root).count(old) == 1
    write(root, text_of(root).replace(old, new))


def use_own_sources(root: Path) -> None:
    text = text_of(root)
    write(root, text[: text.index("    - kind: package")] + OWN + text[text.index("  max_row_bytes") :])


def leaves(values: dict[str, Any], defaults: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; a key that is no section in the defaults is a value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            found |= leaves(value, defaults[key], f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def overlay(name: str) -> dict[str, Any]:
    defaults = reread((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return leaves(reread((ROOT / f"presets/{name}.yaml").read_text(encoding="utf-8")), defaults)


def test_the_presets() -> None:
    assert preset_names(ROOT) == list(PRESETS)
    assert preset("smoke").pretrain.num_steps == 40
    assert preset("gpu").model.scratch.hidden_size == 768
    assert [source.name for source in preset("gpu").prepare.sources] == [
        "fineweb-edu",
        "ultrachat",
        "chitchat",
        "wikipedia",
    ]
    assert [source.max_documents for source in preset("smoke").prepare.sources] == [1500, 600]


def test_laptop_is_what_params_yaml_holds_of_all_that_presets_and_depths_change() -> None:
    changed = {key for name in PRESETS if name != "laptop" for key in overlay(name)}
    changed |= set(resize(preset("laptop"), 5))
    changed |= {"model.base"}  # of `configure --base`
    laptop, committed = overlay("laptop"), reread((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert set(laptop) == changed
    committed = leaves(committed, committed)
    assert laptop == {key: committed[key] for key in laptop}


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "laptop"])
def test_a_preset_holds_only_what_differs(name: str) -> None:
    laptop = overlay("laptop")
    assert [key for key, value in overlay(name).items() if value == laptop[key]] == []


def test_evening_is_laptop_at_its_depth() -> None:
    laptop, at_depth = overlay("laptop"), resize(preset("laptop"), overlay("evening")["model.scratch.num_layers"])
    assert overlay("evening") == {key: value for key, value in at_depth.items() if value != laptop[key]}


def test_every_way_leads_to_the_same_bytes(root: Path) -> None:
    for name in ("gpu", "smoke", "evening", "smoke", "gpu", "laptop"):
        write(root, with_preset(root, name, {}).text)
        assert text_of(root) == preset_text(name)
        assert load_params(root / "params.yaml") == load_preset(root, name)
    assert text_of(root) == (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["laptop", "gpu"])
def test_every_depth_leads_back(root: Path, name: str) -> None:
    write(root, with_preset(root, name, resize(preset(name), 9)).text)
    assert load_params(root / "params.yaml").model.scratch.num_layers == 9
    assert with_preset(root, "laptop", {}).text == (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_only_the_lines_that_change_change_and_comments_stay(root: Path) -> None:
    replace(root, "  num_steps: 1350  # ", "  # mine\n  num_steps:   44   # a few: ")
    replace(root, "  curve_vocab_sizes: [512, 1024, 2048, 4096]", "  curve_vocab_sizes: [ 4096 ]")
    before = text_of(root).splitlines()
    rewrite = with_preset(root, "laptop", {"pretrain.batch_size": 2, "sft.lora": None})
    assert rewrite.changes == [
        Change("tokenizer.scratch.curve_vocab_sizes", [4096], [512, 1024, 2048, 4096]),
        Change("pretrain.num_steps", 44, 1350),
        Change("pretrain.batch_size", 8, 2),
    ]
    changed = [(a, b) for a, b in zip(before, rewrite.text.splitlines(), strict=True) if a != b]
    assert [(a.partition("#")[0], b.partition("#")[0]) for a, b in changed] == [
        ("    curve_vocab_sizes: [ 4096 ]  ", "    curve_vocab_sizes: [512, 1024, 2048, 4096]  "),
        ("  num_steps:   44   ", "  num_steps: 1350   "),
        ("  batch_size: 8  ", "  batch_size: 2  "),
    ]
    assert all(a.partition("#")[2] == b.partition("#")[2] for a, b in changed)


def test_a_value_may_become_a_section_and_come_back(root: Path) -> None:
    before = text_of(root)
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "target_modules": ["q_proj"]}
    write(root, with_preset(root, "laptop", {"sft.lora": lora}).text)
    assert load_params(root / "params.yaml").sft.lora is not None
    assert "  lora: {rank: 4, alpha: 8.0, dropout: 0.0, target_modules: [q_proj]}\n" in text_of(root)
    assert with_preset(root, "laptop", {"sft.lora": None}).text == before
    replace(root, "  lora: {rank: 4, alpha: 8.0, dropout: 0.0, target_modules: [q_proj]}\n\nreward", LORA_LINES)
    assert with_preset(root, "laptop", {"sft.lora": None}).text == before


LORA_LINES = """  lora:
    rank: 4
    alpha: 8.0
    dropout: 0.0
    target_modules:
      - q_proj

reward"""


def test_other_values_of_the_user_stay(root: Path) -> None:
    replace(root, "  rope_theta: 10000.0", "  rope_theta: 5000.0")
    assert load_preset(root, "smoke").model.scratch.rope_theta == 5000.0
    assert load_preset(root, "laptop").model.scratch.rope_theta == 5000.0


def test_own_sources_stay(root: Path) -> None:
    use_own_sources(root)
    rewrite = with_preset(root, "gpu", {})
    assert rewrite.keeps_sources
    assert [source.name for source in rewrite.params.prepare.sources] == ["own"]
    assert OWN in rewrite.text
    assert rewrite.params.prepare.splits == preset("gpu").prepare.splits
    assert not with_preset(ROOT, "gpu", {}).keeps_sources


def test_one_changed_key_makes_sources_ones_own(root: Path) -> None:
    text = text_of(root)
    write(root, text.replace("max_documents: null", "max_documents: 700", 1))
    rewrite = with_preset(root, "smoke", {})
    assert rewrite.keeps_sources
    assert [source.max_documents for source in rewrite.params.prepare.sources] == [700, None]


def test_a_preset_of_ones_own(root: Path) -> None:
    (root / "presets").unlink()
    (root / "presets").mkdir()
    for name in ("laptop", "smoke"):
        (root / f"presets/{name}.yaml").write_bytes((ROOT / f"presets/{name}.yaml").read_bytes())
    (root / "presets/mine.yaml").write_text("pretrain:\n  beta2: 0.99\n", encoding="utf-8")
    assert with_preset(root, "mine", {}).changes == [Change("pretrain.beta2", 0.95, 0.99)]


def test_a_missing_key_that_the_preset_has_comes_back(root: Path) -> None:
    lines = text_of(root).splitlines(keepends=True)
    write(root, "".join(line for line in lines if not line.startswith("  accumulate: 1 ")))
    rewrite = with_preset(root, "laptop", {})
    assert rewrite.changes == [Change("pretrain.accumulate", None, 1), Change("reward.accumulate", None, 1)]
    assert rewrite.params == preset("laptop")


def test_all_problems_at_once(root: Path) -> None:
    replace(root, "  beta1: 0.9 ", "  momentum: 0.9\n  beta1: 0.9 ")
    with pytest.raises(ParamsError) as error:
        with_preset(root, "laptop", {"model.scratch.num_heads": 0, "sft.learning_rate": -1.0})
    assert "3 problems" in str(error.value)
    for part in ("pretrain.momentum: unknown key", "model.scratch.num_heads", "sft.learning_rate"):
        assert part in str(error.value)


def test_a_broken_section_is_named(root: Path) -> None:
    text = text_of(root)
    write(root, text[: text.index("prepare:")] + "prepare: 3\n\n" + text[text.index("tokenizer:") :])
    with pytest.raises(ParamsError, match=r"prepare\.clean: missing"):
        with_preset(root, "laptop", {})


def test_aliases_are_refused(root: Path) -> None:
    replace(root, "  num_steps: 1350 ", "  num_steps: &steps 1350 ")
    replace(root, "  max_chats: 1500 ", "  max_chats: *steps ")
    with pytest.raises(ParamsError, match="without anchors and aliases"):
        with_preset(root, "smoke", {})


def test_a_section_that_two_keys_share_is_refused(root: Path) -> None:
    text = text_of(root).replace("  monitor_judge:", "  monitor_judge: &judge")
    start, end = text.index("  gold_judge:"), text.index("  batch_size: 32")
    write(root, f"{text[:start]}  gold_judge: *judge\n{text[end:]}")
    with pytest.raises(ParamsError, match="without anchors and aliases"):
        with_preset(root, "laptop", {"evaluate.gold_judge.num_folds": 7})


@pytest.mark.parametrize(
    ("content", "message"), [(b"a: [1", "not valid YAML"), (b"", "must hold sections"), (b"\xff", "not valid UTF-8")]
)
def test_a_file_that_cannot_be_read_is_refused(root: Path, content: bytes, message: str) -> None:
    (root / "params.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=message):
        with_preset(root, "laptop", {})
