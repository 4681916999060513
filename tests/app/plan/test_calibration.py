"""The timing of a few steps: every kind once, cached for the same machine and shapes."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from groundup.app.plan import calibration
from groundup.app.plan.calibration import Rates, calibrate, machine, random_model, rates
from groundup.app.plan.sizing import count_parameters
from tests.presets import preset

SMOKE = preset("smoke")


def test_every_kind_of_work_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MAX_RUNS", 1)
    measured = calibrate(SMOKE, torch.device("cpu"))
    assert all(0 < seconds < 10 for seconds in asdict(measured).values())


def test_the_model_is_of_the_size_that_pretraining_builds() -> None:
    model = random_model(SMOKE, torch.device("cpu"))
    assert sum(p.numel() for p in model.parameters()) == count_parameters(
        SMOKE.model.scratch, SMOKE.tokenizer.scratch.vocab_size
    )


def test_rates_are_kept_for_the_machine_and_the_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []

    def fake(params: object, device: object) -> Rates:
        taken.append(1.0)
        return Rates(*[float(len(taken))] * 9)

    monkeypatch.setattr(calibration, "calibrate", fake)
    first = rates(SMOKE, "cpu", tmp_path, again=False)
    assert rates(SMOKE, "cpu", tmp_path, again=False) == first
    assert rates(SMOKE, "cpu", tmp_path, again=True).reply == 2.0
    shorter = SMOKE.model_copy(update={"model": SMOKE.model.model_copy(update={"context_length": 64})})
    assert machine(shorter, "cpu") != machine(SMOKE, "cpu")
    assert rates(shorter, "cpu", tmp_path, again=False).reply == 3.0
    (tmp_path / f"{machine(SMOKE, 'cpu')}.json").write_text('{"reply": 1.0}')  # of an older version
    assert rates(SMOKE, "cpu", tmp_path, again=False).reply == 4.0
