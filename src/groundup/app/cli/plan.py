"""`groundup plan`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.table import Table

from groundup.app.cli.checkout import console, fail, find_root, say_wrong
from groundup.app.plan.elsewhere import CARDS, Fleet, misfits_elsewhere, plan_elsewhere
from groundup.app.plan.judge import planned_judge
from groundup.app.plan.lengths import counted_lengths
from groundup.app.plan.memory import USABLE, Room, in_mb, model_outs, remedy, rooms
from groundup.app.plan.model import planned_config, planned_model
from groundup.app.plan.seconds import Rates, costs, work_seconds
from groundup.app.plan.workload import Data, Work, count_work, read_data
from groundup.core.training.cost import in_short
from groundup.runner.clock import stage_seconds
from groundup.runner.device import resolve_device
from groundup.runner.disk import free_bytes
from groundup.runner.environment import main_root
from groundup.runner.launch.settings import STRATEGIES, read_launch
from groundup.runner.params import Params, load_params
from groundup.runner.pipeline import PipelineError, StageSpec, read_pipeline, stages_to_run

START_SECONDS = 1.5  # of every stage: interpreter, imports, tracking
TORCH_SECONDS = 4.5  # in addition, for a stage that imports torch


def plan(
    again: Annotated[
        bool, typer.Option(help="Measure this machine again instead of using earlier measurements.")
    ] = False,
    elsewhere: Annotated[
        str | None, typer.Option("--device", help=f"Plan for {', '.join(CARDS)} or a YAML file of your figures.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Of all machines, one a GPU; with --device.")] = 1,
    strategy: Annotated[str, typer.Option(help="ddp, or fsdp2 where a stage has it; with --device.")] = "ddp",
    utilization: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the device's rates that a stage gets; with --device.")
    ] = 0.3,
) -> None:
    """Show which stages would run, their time, memory and disk, and what does not fit this machine or --device."""
    root = find_root()
    try:
        params = load_params(root / "params.yaml")
        pipeline = read_pipeline(root)
        running = stages_to_run(root, pipeline)
        data, work = amount(root, params, "prepare" in running)
        if strategy not in STRATEGIES:
            fail(f"--strategy {strategy}: use {' or '.join(STRATEGIES)}")
        if elsewhere:
            show_elsewhere(params, data, work, pipeline, Fleet(elsewhere, processes, strategy, utilization))
            return
        device = resolve_device(read_launch(root))
    except (PipelineError, ValueError) as error:
        fail(str(error))
    room = rooms(params, data, work, device)
    problems = misfits(params, data, work, running & room.keys(), room, root, device)
    seconds: dict[str, float] = {}
    if running and not problems:  # do not measure what cannot fit
        rates = measured_rates(root, params, data, work, device, again)
        seconds = predicted_seconds(params, data, work, rates, pipeline)
    last = stage_seconds(root)
    arithmetic = costs(params, data, work)
    table = Table(
        title=f"`dvc repro` on {device}, {params.runtime.precision} (size: parameters; MB of memory, disk)",
        caption="A stage runs unless the run cache has its result. ?: unknown.\nDisk: work dir, artifacts, MLflow and "
        f"DVC's cache, which keeps {in_mb(published(running, data, work))} MB of it for every experiment.",
    )
    for column in ("stage", "fate", "size", "FLOP", "memory", "disk", "minutes", "last"):
        table.add_column(column, justify="left" if column in ("stage", "fate") else "right", no_wrap=True)
    for stage in pipeline:
        cost, it = arithmetic.get(stage), room.get(stage)
        table.add_row(
            stage,
            "runs" if stage in running else "unchanged",
            in_short(cost.num_parameters).strip() if cost else "",
            in_short(cost.flops) if cost else "",
            in_mb(it.host + it.device) if it else "?",
            in_mb(it.disk) if it else "?",
            in_minutes(seconds.get(stage)) if stage in running else "0",
            in_minutes(last[stage]) if stage in last else "",
        )
    table.add_section()
    table.add_row(
        "together",
        f"{len(running)} of {len(pipeline)} run",
        *("", "", ""),
        in_mb(sum(room[stage].disk for stage in running & room.keys())),
        in_minutes(sum(seconds[stage] for stage in running & seconds.keys()) if seconds or not running else None),
        "",
    )
    console.print(table)
    for problem in problems:
        say_wrong(problem)
    if problems:
        raise typer.Exit(1)


def show_elsewhere(params: Params, data: Data, work: Work, pipeline: Mapping[str, StageSpec], fleet: Fleet) -> None:
    planned = plan_elsewhere(params, data, work, pipeline, fleet)
    table = Table(
        title=f"{fleet.processes} processes, one {fleet.device} each, {params.runtime.precision} "
        "(size: parameters; MB of a process)",
        caption=f"Minutes: training and sampling at {fleet.utilization:.0%} of the device's rates. Not in them: "
        "prepare, tokenizer, validation,\nreading data, and the way between processes.",
    )
    for column in ("stage", "size", "FLOP", "processes", "strategy", "memory", "minutes"):
        table.add_column(column, justify="left" if column in ("stage", "strategy") else "right", no_wrap=True)
    for stage, it in planned.items():
        size, flops = in_short(it.cost.num_parameters).strip(), in_short(it.cost.flops)
        memory, minutes = in_mb(it.room.device), in_minutes(it.seconds)
        table.add_row(stage, size, flops, str(it.processes), it.strategy, memory, minutes)
    console.print(table)
    problems = misfits_elsewhere(params, data, work, planned, fleet)
    for problem in problems:
        say_wrong(problem)
    if problems:
        raise typer.Exit(1)


def amount(root: Path, params: Params, prepare_runs: bool) -> tuple[Data, Work]:
    """ValueError if the base is not there, no run has counted the data, or the judge is not there."""
    model = planned_model(root, params)
    data = read_data(root, params, prepare_runs, counted_lengths(root, params))
    return data, count_work(params, data, model, planned_judge(root, params, data.lengths))


def predicted_seconds(
    params: Params, data: Data, work: Work, rates: Rates, pipeline: Mapping[str, StageSpec]
) -> dict[str, float]:
    """Seconds of each stage, its start included."""
    seconds = {}
    for stage, taken in work_seconds(params, data, work, rates).items():
        imports_torch = stage in pipeline and "runtime" in pipeline[stage].params
        seconds[stage] = START_SECONDS + (TORCH_SECONDS if imports_torch else 0) + taken
    return seconds


def measured_rates(root: Path, params: Params, data: Data, work: Work, device: str, again: bool) -> Rates:
    from groundup.app.plan.calibration import rates
    from groundup.app.plan.measurement import Planned
    from groundup.app.plan.open_model import scratch_config

    try:
        planned = Planned(
            planned_config(root, params) or scratch_config(params),
            work.judge.config if work.judge else None,
            data.lengths,
            round(work.side),
            params.model.context_length,
        )
    except ValueError as error:
        fail(str(error))
    with console.status("measuring a few steps on this machine"):
        return rates(params, device, planned, main_root(root) / ".work/plan", again)


def published(running: set[str], data: Data, work: Work) -> int:
    """Bytes of the stages' outs."""
    return sum(size for stage, size in model_outs(data, work.model).items() if stage in running)


def misfits(
    params: Params, data: Data, work: Work, running: set[str], room: dict[str, Room], root: Path, device: str
) -> list[str]:
    """For each stage that cannot fit, a sentence that names the param to change."""
    host = USABLE * psutil.virtual_memory().total
    card = USABLE * device_bytes(device)

    def fits(stage: str, changed: Params) -> bool:
        it = rooms(changed, data, count_work(changed, data, work.model, work.judge), device)[stage]
        return it.host <= host and it.device <= card

    problems = []
    for stage in (stage for stage in room if stage in running):
        it = room[stage]
        if it.host > host or it.device > card:
            where, needed, there = ("memory", it.host, host) if it.host > host else (device, it.device, card)
            advice = remedy(stage, params, lambda changed, stage=stage: fits(stage, changed))  # type: ignore[misc]
            problems.append(
                f"{stage} cannot fit: about {in_mb(needed)} MB of {where}, {in_mb(there)} are usable; {advice}"
            )
    needed = sum(room[stage].disk for stage in running)
    if needed > (free := free_bytes(root)):
        problems.append(
            f"the disk is too small for the stages that run: about {in_mb(needed)} MB, {in_mb(free)} are free; "
            "`groundup clean` and `dvc gc -w` make room, or lower max_rows or max_documents of prepare.sources"
        )
    return problems


def device_bytes(device: str) -> float:
    """Memory of the card; MPS shares the machine's."""
    if device != "cuda":
        return float(psutil.virtual_memory().total)
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory)


def in_minutes(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds / 60:.1f}"
