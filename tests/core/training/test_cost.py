"""Arithmetic of training."""

import json
from pathlib import Path

import pytest

from groundup.core.training.cost import Cost, in_short, read_cost, write_cost


def test_six_to_learn_and_two_to_read() -> None:
    assert Cost(num_parameters=10, num_learned_tokens=3, num_read_tokens=5).flops == 6 * 10 * 3 + 2 * 10 * 5


def test_frozen_weights_have_no_gradients_of_their_own() -> None:
    cost = Cost(num_parameters=10, num_learned_tokens=3, num_read_tokens=5, num_trained_parameters=2)
    assert cost.flops == 4 * 10 * 3 + 2 * 2 * 3 + 2 * 10 * 5


@pytest.mark.parametrize("cost", [Cost(1_328_256, 1_536_000, 0), Cost(1_328_256, 1_536_000, 0, 4096)])
def test_it_is_read_as_it_was_written(tmp_path: Path, cost: Cost) -> None:
    assert read_cost(tmp_path) is None
    write_cost(cost, tmp_path)
    assert read_cost(tmp_path) == cost


def test_of_a_model_that_is_trained_whole_three_numbers_are_written(tmp_path: Path) -> None:
    write_cost(Cost(1_328_256, 1_536_000, 0), tmp_path)
    written = json.loads((tmp_path / "cost.json").read_text(encoding="utf-8"))
    assert written == {"num_parameters": 1_328_256, "num_learned_tokens": 1_536_000, "num_read_tokens": 0}


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 "), (999, "999 "), (1000, "1 k"), (1_536_000, "1.54 M"), (12_240_000_000_000, "12.2 T"), (2e16, "20 P")],
)
def test_in_short(number: float, text: str) -> None:
    assert in_short(number) == text
