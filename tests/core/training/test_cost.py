"""Arithmetic of training."""

from pathlib import Path

import pytest

from groundup.core.training.cost import Cost, in_short, read_cost, write_cost


def test_six_to_learn_and_two_to_read() -> None:
    assert Cost(num_parameters=10, num_learned_tokens=3, num_read_tokens=5).flops == 6 * 10 * 3 + 2 * 10 * 5


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    cost = Cost(1_328_256, 1_536_000, 0)
    assert read_cost(tmp_path) is None
    write_cost(cost, tmp_path)
    assert read_cost(tmp_path) == cost


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 "), (999, "999 "), (1000, "1 k"), (1_536_000, "1.54 M"), (12_240_000_000_000, "12.2 T"), (2e16, "20 P")],
)
def test_in_short(number: float, text: str) -> None:
    assert in_short(number) == text
