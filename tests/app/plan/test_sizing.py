"""Sizing: a preset's own depth gives the preset; other depths follow the published rules."""

from typing import Any

import pytest

from groundup.app.plan.sizing import count_parameters, count_tokens, fitting, near_multiple, resize, scaled, shape
from groundup.runner.nested import flatten
from groundup.runner.params import Params
from groundup.runner.params.load import parse_params
from groundup.runner.params.presets import preset_names
from tests.conftest import ROOT
from tests.presets import preset

PRESETS = [name for name in preset_names(ROOT) if preset(name).model.base is None]


def with_values(params: Params, changes: dict[str, Any]) -> Params:
    """By dotted key."""
    values = params.model_dump(mode="json")
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section[name]
        section[last] = value
    return parse_params(values, "params")


def four_layers(**changed: Any) -> Params:
    """Fixed here, so that the literals below do not move with the presets."""
    fixed = {
        "tokenizer__scratch__vocab_size": 4096,
        "model__context_length": 256,
        "model__scratch__hidden_size": 128,
        "model__scratch__num_layers": 4,
        "model__scratch__num_heads": 4,
        "model__scratch__num_kv_heads": 4,
        "model__scratch__intermediate_size": 352,
        "model__scratch__tie_embeddings": True,
        "pretrain__optimizer": "muon",
        "pretrain__num_steps": 750,
        "pretrain__batch_size": 8,
        "pretrain__accumulate": 1,
        "pretrain__learning_rate": 0.003,
        "pretrain__muon_learning_rate": 0.02,
        "pretrain__weight_decay": 0.05,
        "pretrain__warmup_steps": 50,
        "pretrain__validate_every": 125,
        "sft__max_chats": 1500,
        "sft__batch_size": 1,
        "sft__accumulate": 8,
        "sft__learning_rate": 0.001,
        "reward__batch_size": 16,
        "reward__accumulate": 1,
        "reward__learning_rate": 0.0004,
        "align__minibatch_size": 32,
        "align__forward_batch_size": 16,
        "align__ppo__value_learning_rate": 0.001,
    }
    changes = fixed | changed
    return with_values(preset("laptop"), {key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize("name", PRESETS)
def test_the_depth_of_a_preset_gives_the_preset(name: str) -> None:
    chosen = preset(name)
    values = flatten(chosen.model_dump())
    for key, value in resize(chosen, chosen.model.scratch.num_layers).items():
        assert value == values[key], key


def test_parameters_are_counted_as_the_default_model_has_them() -> None:
    chosen = four_layers()
    assert count_parameters(chosen.model.scratch, 4096) == 1_328_256  # of metrics/pretrain.json
    assert count_tokens(chosen) == 1_536_000
    untied = chosen.model.scratch.model_copy(update={"tie_embeddings": False, "num_kv_heads": 1})
    assert count_parameters(untied, 4096) == 1_328_256 + 4096 * 128 - 4 * 2 * 128 * 96


def test_twice_the_depth() -> None:
    changes = resize(four_layers(), 8)
    assert changes["model.scratch.hidden_size"] == 256
    assert changes["model.scratch.num_heads"] == changes["model.scratch.num_kv_heads"] == 8
    assert changes["model.scratch.intermediate_size"] == 704
    # 7,475,456 parameters: 5.63 times as many, so 8.65 M tokens and 5.63^0.383 = 1.94, near 2, times the rows
    assert (changes["pretrain.batch_size"], changes["pretrain.accumulate"]) == (2, 8)
    assert changes["pretrain.num_steps"] == 2111
    assert changes["pretrain.learning_rate"] == 0.00424  # 0.003 sqrt(2)
    assert changes["pretrain.muon_learning_rate"] == 0.02  # sqrt(2) of the batch, 1 / sqrt(2) of the depth
    assert changes["pretrain.weight_decay"] == 0.0178  # 0.05 x 750 / 2111
    assert changes["pretrain.warmup_steps"] == 141
    assert changes["pretrain.validate_every"] == 352
    assert changes["sft.learning_rate"] == 0.000354  # 0.001 / 2 / sqrt(2)
    assert changes["align.ppo.value_learning_rate"] == 0.000354
    assert (changes["reward.batch_size"], changes["reward.accumulate"]) == (4, 4)
    assert changes["reward.learning_rate"] == 0.000141  # 0.0004 / 2 / sqrt(2)
    assert changes["sft.max_chats"] == 3559  # 1500 sqrt(5.63)
    assert changes["align.forward_batch_size"] == 4  # twice the width, twice the layers


def test_adamw_alone_takes_the_rate_of_hidden_weights() -> None:
    changes = resize(four_layers(pretrain__optimizer="adamw"), 8)
    assert changes["pretrain.learning_rate"] == 0.0015  # sqrt(2) of the batch, 1 / 2 / sqrt(2)
    assert changes["pretrain.weight_decay"] == 0.0355  # 0.05 x 750 / 2111 x 2


def test_no_limit_stays_none() -> None:
    changes = resize(four_layers(sft__max_chats=None, reward__max_pairs=None), 8)
    assert not {"sft.max_chats", "reward.max_pairs"} & set(changes)


def test_groups_of_heads_stay_whole() -> None:
    grouped = four_layers(model__scratch__num_kv_heads=2).model.scratch
    for depth in range(1, 20):
        model = shape(grouped, depth)
        assert model.num_heads == 2 * model.num_kv_heads
        assert model.hidden_size == 32 * model.num_heads


@pytest.mark.parametrize("name", PRESETS)
def test_every_depth_is_valid_and_more_of_it_is_more(name: str) -> None:
    chosen = preset(name)
    wanted = count_tokens(chosen) / count_parameters(chosen.model.scratch, chosen.tokenizer.scratch.vocab_size)
    last = (0, 0, float("inf"), 0)
    for depth in range(1, 41):
        sized = with_values(chosen, resize(chosen, depth))
        size = count_parameters(sized.model.scratch, sized.tokenizer.scratch.vocab_size)
        assert sized.model.scratch.hidden_size % sized.model.scratch.num_heads == 0
        pairs = sized.reward.sampled.max_pairs
        assert (size, count_tokens(sized)) > last[:2]
        assert size > last[0]
        assert sized.sft.learning_rate <= last[2]
        assert pairs >= last[3]
        assert 0.97 < count_tokens(sized) / size / wanted < 1.03  # steps are whole
        last = (size, count_tokens(sized), sized.sft.learning_rate, pairs)


@pytest.mark.parametrize(
    ("rows", "activations", "of", "expected"),
    [(8, 1.0, 8, 8), (8, 4.0, 16, 2), (16, 3.0, 32, 4), (8, 0.25, 4, 4), (1, 9.0, 8, 1), (6, 1.0, 4, 6)],
)
def test_rows_of_a_forward_pass(rows: int, activations: float, of: int, expected: int) -> None:
    assert fitting(rows, activations, of) == expected


def test_rounding() -> None:
    assert near_multiple(341.3, 32) == 352
    assert near_multiple(3.0, 32) == 32
    assert scaled(0.0012345, 1) == 0.0012345
    assert scaled(0.0012345, 0.5) == 0.000617
