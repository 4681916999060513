"""A plan for devices that are not here: memory of each process by a strategy, minutes by arithmetic."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from groundup.app.plan.memory import FLOAT, USABLE, Room, in_mb, remedy, rooms, with_value
from groundup.app.plan.seconds import NUM_MODELS, costs
from groundup.app.plan.workload import Data, Work
from groundup.core.training.cost import Cost
from groundup.core.training.shares import share_of, share_of_step
from groundup.runner.files import read_yaml
from groundup.runner.params import Params
from groundup.runner.pipeline import StageSpec


class Device(NamedTuple):
    memory_gb: float
    fp32_tflops: float  # of matrix products a second, dense
    bf16_tflops: float
    gb_per_second: float  # of its memory


# From the makers' data sheets: H100 SXM, A100 SXM of 80 GB, GeForce RTX 4090 (bf16 added up in fp32).
CARDS = {
    "h100": Device(80, 67, 989, 3350),
    "a100": Device(80, 19.5, 312, 2039),
    "4090": Device(24, 82.6, 165, 1008),
}


class Fleet(NamedTuple):
    device: str  # of CARDS, or a file
    processes: int  # of all machines
    strategy: str  # where a stage has it, else ddp
    utilization: float  # the share of a device's arithmetic, and of its memory's rate, that a stage gets


class PlannedStage(NamedTuple):
    cost: Cost
    processes: int  # 1 for a stage that does not spread
    strategy: str  # empty for one process
    room: Room  # of a process
    seconds: float  # of training and sampling, without validation, reading data and the way between processes


def named_device(name: str) -> Device:
    """Of CARDS, or of a YAML file with your own figures; ValueError if it is neither."""
    if name in CARDS:
        return CARDS[name]
    lines = ", ".join(Device._fields)
    if not Path(name).is_file():
        raise ValueError(f"--device {name}: use {', '.join(CARDS)} or a YAML file with {lines}")
    found = read_yaml(Path(name), f"write {lines}, a number each")
    if not isinstance(found, dict) or found.keys() != set(Device._fields):
        raise ValueError(f"{name} has to hold {lines}, a number each")
    if wrong := [key for key, value in found.items() if not isinstance(value, int | float) or not value > 0]:
        raise ValueError(f"{name}: {', '.join(wrong)}: a number above 0 is needed")
    return Device(**found)


def of_process(params: Params, processes: int) -> Params:
    """With the batches of one process. ValueError lists all that cannot be divided."""
    problems, changes = [], dict[str, dict[str, Any]]()
    p, a = params.pretrain, params.align

    def divided(stage: str, name: str, size: int) -> None:
        try:
            changes.setdefault(stage, {})[name] = share_of(size, f"{stage}.{name}", processes)
        except ValueError as error:
            problems.append(str(error))

    divided("pretrain", "batch_size", p.batch_size)
    for stage in ("sft", "reward"):
        it = getattr(params, stage)
        try:
            rows, accumulate = share_of_step(stage, it.batch_size, it.accumulate, processes)
            changes[stage] = {"batch_size": rows, "accumulate": accumulate}
        except ValueError as error:
            problems.append(str(error))
    divided("align", "minibatch_size", a.minibatch_size)
    try:
        replies = share_of(a.rollout.batch_size, "align.rollout.batch_size", processes)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    changes["align"] |= {
        "rollout": a.rollout.model_copy(update={"batch_size": replies}),
        "forward_batch_size": min(a.forward_batch_size, changes["align"]["minibatch_size"]),
    }
    return params.model_copy(
        update={stage: getattr(params, stage).model_copy(update=values) for stage, values in changes.items()}
    )


def plan_elsewhere(
    params: Params, data: Data, work: Work, pipeline: Mapping[str, StageSpec], fleet: Fleet
) -> dict[str, PlannedStage]:
    """By stage."""
    device = named_device(fleet.device)
    found = {}
    for stage, cost in costs(params, data, work).items():
        spreads = pipeline[stage].spreads
        number = fleet.processes if spreads else 1
        strategy = "" if number == 1 else fleet.strategy if fleet.strategy in spreads else spreads[0]
        in_bf16 = params.runtime.precision == "bf16" and stage != "evaluate"  # which measures in fp32
        tflops = device.bf16_tflops if in_bf16 else device.fp32_tflops
        calculated = cost.flops / (number * tflops * 1e12 * fleet.utilization)
        steps, num_bytes = sampling_steps(stage, params, work, number)
        read = steps * work.model.num_parameters * num_bytes
        sampled = read / (device.gb_per_second * 1e9 * fleet.utilization)
        room = room_of_process(stage, params, data, work, number, strategy)
        found[stage] = PlannedStage(cost, number, strategy, room, calculated + sampled)
    return found


def room_of_process(stage: str, params: Params, data: Data, work: Work, processes: int, strategy: str) -> Room:
    share = of_process(params, processes)
    room = rooms(share, data, work, "cuda", processes if strategy == "fsdp2" else 1)[stage]
    if processes > 1 and stage in ("sft", "reward"):  # accelerate's DDP keeps a second copy of the gradients
        room = replace(room, device=room.device + FLOAT * work.model.num_trained(stage))
    return room


def misfits_elsewhere(
    params: Params, data: Data, work: Work, planned: Mapping[str, PlannedStage], fleet: Fleet
) -> list[str]:
    """For each stage that cannot fit, a sentence that names what to change."""
    usable = USABLE * named_device(fleet.device).memory_gb * 1e9
    problems = []
    for stage, it in planned.items():
        if it.room.device <= usable:
            continue

        def fits(changed: Params, stage: str = stage, it: PlannedStage = it) -> bool:
            try:
                same_step = with_step_of(params, changed, stage)
                room = room_of_process(stage, same_step, data, work, it.processes, it.strategy)
            except ValueError:  # not divisible
                return False
            return room.device <= usable

        problems.append(
            f"{stage} cannot fit: about {in_mb(it.room.device)} MB of {fleet.device}, {in_mb(usable)} are usable; "
            f"{remedy(stage, params, fits)}"
        )
    return problems


def with_step_of(params: Params, changed: Params, stage: str) -> Params:
    """`changed`, whose passes have fewer rows, with as many more of them a step: processes first share the passes."""
    before, after = getattr(params, stage), getattr(changed, stage)
    if not hasattr(before, "accumulate"):
        return changed
    return with_value(changed, stage, "accumulate", before.accumulate * before.batch_size // after.batch_size)


def sampling_steps(stage: str, params: Params, work: Work, processes: int) -> tuple[int, int]:
    """(tokens that a process samples one after the other, each a reading of all weights; bytes of a weight).

    Without value probes, and without the decoding methods, which every process of evaluate repeats.
    """
    r, a, e = params.reward, params.align, params.evaluate
    in_rollouts = FLOAT // 2 if params.runtime.precision == "bf16" else FLOAT
    if stage == "reward":
        passes = math.ceil(work.num_sampled / processes / r.sampled.batch_size)
        return passes * r.sampled.max_new_tokens, FLOAT
    if stage == "align":
        return a.num_iterations * a.rollout.max_new_tokens, in_rollouts
    if stage == "evaluate":
        replies = NUM_MODELS * e.num_prompts + e.best_of_n.num_prompts * e.best_of_n.num_replies
        return math.ceil(replies / processes / e.batch_size) * e.max_new_tokens, FLOAT
    return 0, FLOAT
