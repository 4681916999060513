"""The choice of runtime.precision for an open model."""

from pathlib import Path

import pytest

from groundup.app.plan import timing
from groundup.app.plan.precision import choose_precision, measured_step
from tests.families import FAMILIES, family_model


@pytest.mark.parametrize(
    ("bf16_seconds", "precision", "reason"),
    [
        (0.5, "bf16", "in bf16 is 2.0 times as fast as in fp32"),
        (0.9, "fp32", "in bf16 is 1.1 times as fast as in fp32 here, and its rounding is worth 1.15 times"),
        (20.0, "fp32", "in bf16 is 20.0 times slower than in fp32"),  # a processor that emulates it
    ],
)
def test_the_measurement_decides(bf16_seconds: float, precision: str, reason: str) -> None:
    seconds = {"fp32": 1.0, "bf16": bf16_seconds}
    choice = choose_precision(seconds.__getitem__)
    assert choice.precision == precision
    assert reason in choice.reason


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_any_architecture_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    monkeypatch.setattr(timing, "MAX_RUNS", 1)
    family_model(family).save_pretrained(tmp_path)
    measure = measured_step(tmp_path, "cpu", 1)
    assert 0 < measure("fp32") < 60
    assert 0 < measure("bf16") < 60


def test_a_model_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cannot be used: .*config\.json.*it has no weights"):
        measured_step(tmp_path, "cpu", 1)
