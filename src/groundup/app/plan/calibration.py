"""Rates of this machine at the params' shapes, which the plan multiplies; measured once and kept."""

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from groundup.app.plan.measurement import Measurement, Planned
from groundup.app.plan.model import loras
from groundup.app.plan.open_model import random_model, with_layers
from groundup.app.plan.seconds import Rates
from groundup.core.model.llama import num_parameters
from groundup.core.training.runtime import set_up
from groundup.runner.files import read_object, write_json
from groundup.runner.params import Params

VERSION = 3  # of the measurement
MEASURED_WEIGHTS = 30_000_000  # on a CPU, of the layers that are measured at once


def machine(params: Params, device: str, planned: Planned) -> str:
    """Hash of what the rates depend on: machine, library and shapes."""
    runtime, p = params.runtime, params.pretrain
    shapes: list[Any] = [
        params.model.context_length,
        p.num_steps > 0,
        p.batch_size,
        p.optimizer,
        params.sft.batch_size,
        params.sft.max_length,
        params.reward.batch_size,
        params.reward.num_wrong_replies,
    ]
    shapes += [params.align.forward_batch_size, params.align.rollout.batch_size, params.align.rollout.max_new_tokens]
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    identity = [VERSION, platform.node(), name, device, torch.__version__, runtime.model_dump()]
    judge = planned.judge and planned.judge.to_dict()
    adapters = {stage: lora.model_dump() for stage, lora in loras(params).items()}
    identity += [planned.config.to_dict(), judge, asdict(planned.lengths), planned.side, shapes, adapters]
    return hashlib.sha256(json.dumps(identity, default=str).encode()).hexdigest()[:16]


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def rates(params: Params, device: str, planned: Planned, folder: Path, again: bool) -> Rates:
    """The rates in `folder` if this machine has measured these shapes before, else new ones."""
    path = folder / f"{machine(params, device, planned)}.json"
    if path.is_file() and not again:
        kept = read_object(path)
        if kept.keys() == {field.name for field in fields(Rates)}:
            return Rates(**kept)
    measured = calibrate(params, torch.device(device), planned)
    write_json(path, asdict(measured))
    return measured


def calibrate(params: Params, device: torch.device, planned: Planned) -> Rates:
    set_up(params.runtime, device.type, params.pretrain.seed)

    def measurement(config: PreTrainedConfig) -> Measurement:
        return Measurement(params, config, device, planned)

    found = Rates(*by_depth(planned.config, device, lambda config: measurement(config).rates()))
    if planned.judge is None:
        return found
    (judge_token,) = by_depth(planned.judge, device, lambda config: (measurement(config).read_token(),))
    return replace(found, judge_token=judge_token)


def by_depth(
    config: PreTrainedConfig, device: torch.device, measure: Callable[[PreTrainedConfig], tuple[float, ...]]
) -> tuple[float, ...]:
    """Seconds of all layers. Where these take long, from those of one layer and of some: each layer takes as long."""
    num_layers = config.num_hidden_layers
    in_layers = num_weights(config) - num_weights(with_layers(config, 1))  # in all but one
    depth = max(2, MEASURED_WEIGHTS * (num_layers - 1) // max(1, in_layers))
    if device.type != "cpu" or depth >= num_layers:
        return measure(config)
    shallow, deep = measure(with_layers(config, 1)), measure(with_layers(config, depth))
    more = (num_layers - depth) / (depth - 1)
    return tuple(b + more * max(0.0, b - a) for a, b in zip(shallow, deep, strict=True))


def num_weights(config: PreTrainedConfig) -> int:
    return num_parameters(random_model(config, "meta"))
