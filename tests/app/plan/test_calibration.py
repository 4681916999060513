"""The timing of a few steps: every kind once, cached for the same machine and shapes."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from groundup.app.plan import calibration, measurement, timing
from groundup.app.plan.calibration import Rates, by_depth, calibrate, machine, rates
from groundup.app.plan.lengths import DEFAULT
from groundup.app.plan.measurement import Planned
from groundup.app.plan.model import LORA_STAGES
from groundup.app.plan.open_model import num_adapter_weights, random_model, scratch_config, with_layers
from groundup.app.plan.sizing import count_parameters
from groundup.runner.params import Params
from groundup.runner.params.training import LoraParams, PretrainParams
from tests.families import FAMILIES, family_config
from tests.presets import preset

SMOKE = preset("smoke")
CPU = torch.device("cpu")
LORA = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear")


def planned(config: PreTrainedConfig | None = None) -> Planned:
    return Planned(config or scratch_config(SMOKE), None, DEFAULT, 40, SMOKE.model.context_length)


def with_lora(params: Params) -> Params:
    sections: dict[str, Any] = {name: getattr(params, name).model_copy(update={"lora": LORA}) for name in LORA_STAGES}
    return params.model_copy(update=sections)


def test_every_kind_of_work_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MAX_RUNS", 1)
    measured = asdict(calibrate(SMOKE, CPU, planned()))
    assert measured.pop("judge_token") == 0  # there is none
    assert all(0 < seconds < 60 for seconds in measured.values())
    assert measured["rollout_reply"] == measured["reply"]  # both in fp32


@pytest.mark.parametrize("family", FAMILIES)
def test_work_with_adapters_is_timed_for_any_architecture(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MAX_RUNS", 1)
    params = with_lora(SMOKE)
    params = params.model_copy(update={"pretrain": params.pretrain.model_copy(update={"num_steps": 0})})
    config = family_config(family, 300)
    measured = asdict(calibrate(params, CPU, replace(planned(config), judge=config)))
    for name in ("pretrain_batch", "pretrain_update"):
        assert measured.pop(name) == 0  # no steps
    assert all(0 < seconds < 60 for seconds in measured.values())


def test_a_frozen_base_takes_no_step_of_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretraining updates its adapter alone: what is measured is the model that the stage trains."""
    stepped: list[int] = []
    made = measurement.build_optimizer

    def watched(model: PreTrainedModel, params: PretrainParams) -> torch.optim.Optimizer:
        optimizer = made(model, params)
        stepped.append(sum(weight.numel() for group in optimizer.param_groups for weight in group["params"]))
        return optimizer

    monkeypatch.setattr(measurement, "build_optimizer", watched)
    monkeypatch.setattr(timing, "MAX_RUNS", 1)
    for params in (SMOKE, with_lora(SMOKE)):
        assert min(measurement.Measurement(params, scratch_config(SMOKE), CPU, planned()).pretraining()) > 0
    whole = count_parameters(SMOKE.model.scratch, SMOKE.tokenizer.scratch.vocab_size)
    assert stepped == [whole, num_adapter_weights(scratch_config(SMOKE), LORA)]


def test_in_bf16_iterations_of_align_are_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MAX_RUNS", 1)
    params = SMOKE.model_copy(update={"runtime": SMOKE.runtime.model_copy(update={"precision": "bf16"})})
    measured = calibrate(params, CPU, planned())
    assert all(0 < seconds < 60 for name, seconds in asdict(measured).items() if name != "judge_token")
    assert measured.rollout_reply != measured.reply


def test_a_part_of_a_large_batch_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that counts tokens: a batch takes as long whatever part of it was run."""
    whole = measurement.Measurement(SMOKE, scratch_config(SMOKE), CPU, planned())
    monkeypatch.setattr(measurement, "MEASURED_FLOPS", 6 * whole.num_weights * 40 * 3)
    part = measurement.Measurement(SMOKE, scratch_config(SMOKE), CPU, planned())
    assert part.fitting(16, 40) == 3
    assert part.fitting(2, 40) == 2
    assert part.fitting(16, 10**6) == 1


def test_layers_that_were_not_measured_take_as_long_as_those_that_were(monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_layers(family_config("llama-tied", 70), 12)
    one = sum(weight.numel() for weight in random_model(with_layers(config, 1), "meta").parameters())
    two = sum(weight.numel() for weight in random_model(with_layers(config, 2), "meta").parameters())
    monkeypatch.setattr(calibration, "MEASURED_WEIGHTS", 4 * (two - one))
    depths: list[int] = []

    def measure(shallow: PreTrainedConfig) -> tuple[float, ...]:
        depths.append(shallow.num_hidden_layers)
        return 5 + 2.0 * shallow.num_hidden_layers, 0.0

    assert by_depth(config, CPU, measure) == (5 + 2 * 12, 0)
    assert depths == [1, 4]
    monkeypatch.setattr(calibration, "MEASURED_WEIGHTS", 10**9)
    assert by_depth(config, CPU, measure) == (5 + 2 * 12, 0)
    assert depths == [1, 4, 12]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_fewer_layers_is_the_same_model(family: str) -> None:
    config = family_config(family, 70)
    one, two = (random_model(with_layers(config, n), "meta") for n in (1, 2))
    assert two.config.num_hidden_layers == 2
    assert set(one.state_dict()) < set(two.state_dict())
    assert [tuple(w.shape) for w in two.parameters()] == [
        tuple(w.shape) for w in random_model(config, "meta").parameters()
    ]


def test_the_model_is_of_the_size_that_pretraining_builds() -> None:
    model = random_model(scratch_config(SMOKE), "meta")
    assert sum(p.numel() for p in model.parameters()) == count_parameters(
        SMOKE.model.scratch, SMOKE.tokenizer.scratch.vocab_size
    )


def test_adapters_are_counted_as_they_are_made() -> None:
    """Rank 2, on q, k, v, o, gate, up and down of both layers: widths 32, heads 32 and 16 wide, 48 inside the MLP."""
    per_layer = 2 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 48) * 3)
    assert num_adapter_weights(family_config("llama-tied", 70), LORA) == 2 * per_layer


def test_rates_are_kept_for_the_machine_and_the_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []

    def fake(params: object, device: object, what: object) -> Rates:
        taken.append(1.0)
        return Rates(*[float(len(taken))] * 13)

    monkeypatch.setattr(calibration, "calibrate", fake)
    what = planned()
    first = rates(SMOKE, "cpu", what, tmp_path, again=False)
    assert rates(SMOKE, "cpu", what, tmp_path, again=False) == first
    assert rates(SMOKE, "cpu", what, tmp_path, again=True).reply == 2.0
    shorter = SMOKE.model_copy(update={"model": SMOKE.model.model_copy(update={"context_length": 64})})
    other = planned(family_config("qwen3", 70))
    names = {machine(SMOKE, "cpu", what), machine(shorter, "cpu", what), machine(SMOKE, "cpu", other)}
    names |= {machine(with_lora(SMOKE), "cpu", what)}
    assert len(names) == 4
    assert rates(shorter, "cpu", what, tmp_path, again=False).reply == 3.0
    (tmp_path / f"{machine(SMOKE, 'cpu', what)}.json").write_text('{"reply": 1.0}')  # of an older version
    assert rates(SMOKE, "cpu", what, tmp_path, again=False).reply == 4.0
