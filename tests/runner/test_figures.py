"""Where each figure is stored."""

import json
from pathlib import Path

import pytest

from groundup.runner.figures import (
    Record,
    check_finite,
    choose,
    numbers,
    of_this_machine,
    read_record,
    reproducible,
    write_record,
)

FIGURES = {
    "loss": 0.5,
    "loss_ci_low": 0.25,
    "loss_ci_high": 0.75,
    "train_seconds": 9.0,
    "aligned": {"reward": 1.0, "sample_seconds": 2.0},
    "tokens_per_second": 5.0,
    "peak_memory_mb": 7.5,
    "stopped": "no",
}


def test_only_numbers_are_figures() -> None:
    assert numbers({"a": 1, "b": {"c": 2.5, "d": "x"}, "e": True, "f": None}) == {"a": 1, "b.c": 2.5}


def test_what_a_rerun_gives_again_and_what_it_does_not() -> None:
    assert reproducible(FIGURES) == {
        "loss": 0.5,
        "loss_ci_low": 0.25,
        "loss_ci_high": 0.75,
        "aligned": {"reward": 1.0},
        "stopped": "no",
    }
    assert of_this_machine(FIGURES) == {
        "train_seconds": 9.0,
        "aligned.sample_seconds": 2.0,
        "tokens_per_second": 5.0,
        "peak_memory_mb": 7.5,
    }


def test_a_headline_brings_its_interval_and_one_that_is_not_there_is_left_out() -> None:
    chosen = choose(FIGURES, ["stopped", "loss", "val_gold"])
    assert list(chosen.items()) == [("stopped", "no"), ("loss", 0.5), ("loss_ci_low", 0.25), ("loss_ci_high", 0.75)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_named(bad: float) -> None:
    with pytest.raises(
        ValueError, match=r"^sft: aligned\.reward came out as NaN or infinite.*lower sft's learning rate"
    ):
        check_finite("sft", {"loss": 1.0, "aligned": {"reward": bad}})


def test_a_record_comes_back(tmp_path: Path) -> None:
    assert read_record(tmp_path, "sft") is None
    write_record(tmp_path, "sft", Record("0123456789abcdef", {"loss": 0.5}))
    assert read_record(tmp_path, "sft") == Record("0123456789abcdef", {"loss": 0.5})
    assert json.loads((tmp_path / "metrics/sft.json").read_text()) == {
        "loss": 0.5,
        "fingerprint": ["0123456789abcdef"],
    }


@pytest.mark.parametrize("fingerprint", ["abc", [], ["a", "b"], [1], None, {"a": "b"}])
def test_a_fingerprint_of_another_shape_is_unknown(tmp_path: Path, fingerprint: object) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/sft.json").write_text(json.dumps({"loss": 0.5, "fingerprint": fingerprint}))
    assert read_record(tmp_path, "sft") == Record("unknown", {"loss": 0.5})
