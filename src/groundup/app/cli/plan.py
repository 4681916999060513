"""`groundup plan`."""

from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.table import Table

from groundup.app.cli.checkout import console, fail, find_root, say_wrong
from groundup.app.plan.memory import MB, Room, remedy, rooms
from groundup.app.plan.seconds import costs, work_seconds
from groundup.app.plan.workload import Data, count_work, read_data
from groundup.core.training.cost import in_short
from groundup.runner.clock import present_runs
from groundup.runner.device import resolve_device
from groundup.runner.disk import free_bytes
from groundup.runner.environment import main_root
from groundup.runner.params import Params, ParamsError, load_params
from groundup.runner.pipeline import PipelineError, read_pipeline

START_SECONDS = 8.0  # of a stage that no run has timed: interpreter, imports, tracking
USABLE = 0.9  # share of a memory that a stage may take


def plan(
    again: Annotated[
        bool, typer.Option(help="Measure this machine again, also where it was measured before.")
    ] = False,
) -> None:
    """Say what each stage will take here, what is cached, and what cannot fit."""
    root = find_root()
    from groundup.runner.fates import Fate, fates

    try:
        params = load_params(root / "params.yaml")
        pipeline = read_pipeline(root)
        found = fates(root, pipeline)
        data = read_data(root, params, found["prepare"] is Fate.RUNS)
        device = resolve_device(root)
        last = present_runs(root)
    except (ParamsError, PipelineError, ValueError) as error:
        fail(str(error))
    work = count_work(params, data)
    room = rooms(params, data, work, device)
    running = [stage for stage, fate in found.items() if fate is Fate.RUNS]
    problems = misfits(params, data, running, room, root, device)
    seconds: dict[str, float] = {}
    if running and not problems:  # what cannot fit is not tried either
        from groundup.app.plan.calibration import rates

        folder = main_root(root) / ".work/plan"
        with console.status("measuring a few steps on this machine"):
            measured = rates(params, device, folder, again)
        working = work_seconds(params, data, work, measured)
        seconds = {stage: start_seconds(last.get(stage)) + s for stage, s in working.items()}
    arithmetic = costs(params, work)
    table = Table(title=f"`dvc repro` on {device}, {params.runtime.precision} (size: parameters; MB of memory, disk)")
    for column in ("stage", "fate", "size", "FLOP", "memory", "disk", "minutes", "last"):
        table.add_column(column, justify="left" if column in ("stage", "fate") else "right", no_wrap=True)
    for stage, fate in found.items():
        cost = arithmetic.get(stage)
        runs = stage in running
        table.add_row(
            stage,
            fate,
            in_short(cost.num_parameters).strip() if cost else "",
            in_short(cost.flops) if cost else "",
            in_mb(room[stage].host + room[stage].device),
            in_mb(room[stage].disk),
            (f"{seconds[stage] / 60:.1f}" if seconds else "?") if runs else "0",
            f"{last[stage]['stage_seconds'] / 60:.1f}" if stage in last else "",
        )
    table.add_section()
    together = f"{sum(seconds[stage] for stage in running) / 60:.1f}" if seconds or not running else "?"
    disk = in_mb(sum(room[stage].disk for stage in running))
    table.add_row("together", f"{len(running)} of {len(found)} run", "", "", "", disk, together, "")
    console.print(table)
    for problem in problems:
        say_wrong(problem)
    if problems:
        raise typer.Exit(1)


def start_seconds(last: dict[str, float] | None) -> float:
    """From the start of the process to its work, and from there to the end, as the last run had it."""
    return max(0.0, last["stage_seconds"] - last["work_seconds"]) if last else START_SECONDS


def misfits(
    params: Params, data: Data, running: list[str], room: dict[str, Room], root: Path, device: str
) -> list[str]:
    """One sentence for each stage that cannot fit, with the number to change."""
    host = USABLE * psutil.virtual_memory().total
    card = USABLE * device_bytes(device)

    def fits(stage: str, changed: Params) -> bool:
        it = rooms(changed, data, count_work(changed, data), device)[stage]
        return it.host <= host and it.device <= card

    problems = []
    for stage in running:
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
            f"the disk cannot hold what runs: about {in_mb(needed)} MB, {in_mb(free)} are free; `groundup clean` and "
            "`dvc gc -w` make room, max_rows or max_documents of prepare.sources lower it"
        )
    return problems


def device_bytes(device: str) -> float:
    """Memory of the card; MPS shares the machine's."""
    if device != "cuda":
        return float(psutil.virtual_memory().total)
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory)


def in_mb(num_bytes: float) -> str:
    return f"{num_bytes / MB:,.0f}"
