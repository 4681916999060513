"""An old params.yaml is migrated: every value and every comment gets to its new place."""

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
  chat_template: own
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
    """smoke's params before sections were moved, from pretrain on."""
    text = preset_text("smoke")
    return text[: text.index("tokenizer:")], text[text.index("pretrain:\n") + len("pretrain:\n") :]


OLD_ALIGN = """\
seed: 4; method: ppo; lora: null; value_trunk: shared; max_prompt_tokens: 64; max_new_tokens: 16; temperature: 0.9
num_iterations: 4; rollout_batch_size: 16; num_epochs: 2; minibatch_size: 8; forward_batch_size: 8
learning_rate: 1.1e-4; value_learning_rate: 1.2e-3; warmup_iterations: 1; max_gradient_norm: 1.3; clip_range: 0.14
value_clip_range: 0.15; discount: 0.16; gae_lambda: 0.17; entropy_coefficient: 0.18; entropy_floor: 0.19
entropy_floor_rate: 0.21; kl_coefficient: 0.22; kl_target: 2.3; kl_horizon: 240; kl_budget: 2.5; kl_stop: 26.0
length_control_gain: 0.27
length_control_rate: 0.28; length_budget: 0.29; diversity_budget: 0.31; pessimism: 0.32; length_penalty: 0.33
repetition_penalty: 0.34; missing_eos_penalty: 0.35; validate_every: 36; num_validation_prompts: 37
num_test_prompts: 38; checkpoint_every: 39; sample_every: 40; num_samples: 41; bootstrap_samples: 42
"""
OLD_ALARMS = (
    "z: 2.0; length_drift: 0.5; repetition_rise: 0.1; rollback_after: 43; rollback_kl_factor: 4.4; max_rollbacks: 45"
)


def old_align() -> str:
    """All values differ, so that none can be mistaken for another."""

    def lines(text: str, indent: str) -> str:
        return "".join(f"{indent}{entry}\n" for line in text.splitlines() for entry in line.split("; "))

    text = preset_text("smoke")
    judge = text[text.index("  monitor_judge:") : text.index("  validation:")]
    groups = "".join(f"  {name}:\n" + lines(GROUP, "    ") for name in ("rloo", "grpo", "dpo"))
    return "align:\n" + groups + lines(OLD_ALIGN, "  ") + judge + "  alarms:\n" + lines(OLD_ALARMS, "    ") + "\n"


GROUP = "learning_rate: 5.0e-4; num_generations: 4; beta: 0.6"


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
    added = [Move("", "model.base", None), Move("", "model.chat_template", "own")]
    assert migration.moves[:3] == [*added, width]
    assert len(migration.moves) == 15


def test_each_key_of_align_has_its_place(old: Path) -> None:
    text = preset_text("smoke")
    old.write_text(text[: text.index("align:")] + old_align() + text[text.index("evaluate:") :], encoding="utf-8")
    align = migrate(old).params.align.model_dump()
    kept = {"monitor_judge": preset("smoke").align.monitor_judge.model_dump()}
    group = {"learning_rate": 5.0e-4, "num_generations": 4, "beta": 0.6}
    shared = {"clip_range": 0.14, "length_control_gain": 0.27, "length_control_rate": 0.28}
    assert align == kept | {
        "seed": 4,
        "method": "ppo",
        "lora": None,
        "num_iterations": 4,
        "num_epochs": 2,
        "minibatch_size": 8,
        "forward_batch_size": 8,
        "warmup_iterations": 1,
        "max_gradient_norm": 1.3,
        "checkpoint_every": 39,
        "rollout": {
            "max_prompt_tokens": 64,
            "max_new_tokens": 16,
            "temperature": 0.9,
            "batch_size": 16,
            "num_elsewhere": 0,
        },
        "rewards": [
            {"kind": "reward_model", "weight": 1.0, "pessimism": 0.32},
            {"kind": "length", "weight": 0.33},
            {"kind": "repetition", "weight": 0.34},
            {"kind": "missing_end_of_turn", "weight": 0.35},
        ],
        "budgets": {"kl": 2.5, "length": 0.29, "diversity": 0.31, "style": 1.0},
        "alarms": {"z": 2.0, "length_drift": 0.5, "repetition_rise": 0.1, "kl_stop": 26.0, "style": 1.0},
        "validation": {"every": 36, "num_prompts": 37, "sample_every": 40, "num_samples": 41},
        "test": {"num_prompts": 38, "bootstrap_samples": 42},
        "ppo": shared
        | {
            "learning_rate": 1.1e-4,
            "value_trunk": "shared",
            "value_learning_rate": 1.2e-3,
            "value_clip_range": 0.15,
            "discount": 0.16,
            "gae_lambda": 0.17,
            "entropy_coefficient": 0.18,
            "entropy_floor": 0.19,
            "entropy_floor_rate": 0.21,
            "kl_coefficient": 0.22,
            "kl_target": 2.3,
            "kl_horizon": 240,
            "rollback_after": 43,
            "rollback_kl_factor": 4.4,
            "max_rollbacks": 45,
        },
        "rloo": group | shared,
        "grpo": group | shared,
        "dpo": group,
    }


def test_an_old_key_is_an_error_that_names_its_new_place(old: Path) -> None:
    with pytest.raises(ParamsError) as error:
        parse_params(reread(old.read_text(encoding="utf-8")), "params.yaml")
    lines = str(error.value).splitlines()
    assert lines[0] == "13 problems in params.yaml:"
    assert (
        "  model.num_layers: moved to model.scratch.num_layers; `groundup configure --migrate` rewrites the file"
        in lines
    )
    assert not any("missing" in line for line in lines)


def test_a_file_of_today_stays(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(preset_text("gpu"), encoding="utf-8")
    migration = migrate(path)
    assert (migration.text, migration.moves) == (preset_text("gpu"), [])


def test_half_moved_by_hand(old: Path) -> None:
    """An existing section receives the rest."""
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
    """Moves that the table supports besides renaming."""
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


@pytest.mark.parametrize(
    "key", ["pretrain.max_final_documents", "pretrain.lora", "reward.max_heldout_pairs", "reward.accumulate"]
)
def test_a_key_that_an_older_file_lacks_is_added_as_it_was_then(key: str, tmp_path: Path) -> None:
    path, (section, _, name) = tmp_path / "params.yaml", key.partition(".")
    before, after = preset_text("smoke").split(f"\n{section}:\n")
    lines = after.splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if line.startswith(f"  {name}:"))
    path.write_text(f"{before}\n{section}:\n" + "".join(lines[:place] + lines[place + 1 :]), encoding="utf-8")
    with pytest.raises(ParamsError, match=f"{key}: missing"):
        parse_params(reread(path.read_text(encoding="utf-8")), "the file")
    assert migrate(path).params == preset("smoke")


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
