"""`groundup report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from groundup.app.cli.checkout import console, fail, find_root
from groundup.runner.clock import stage_seconds
from groundup.runner.params import ParamsError, load_params


def report(
    out: Annotated[Path | None, typer.Option(help="Where to; exports/report.html if left out.")] = None,
) -> None:
    """Show what each stage took, and write the report card with it."""
    root = find_root()
    page = root / "artifacts/report/report.html"
    if not page.is_file():
        fail(f"there is no report in {page}: `dvc repro` writes it, `dvc checkout evaluate` brings the last one back")
    try:
        params = load_params(root / "params.yaml").evaluate
        seconds = stage_seconds(root)
    except (ParamsError, ValueError) as error:
        fail(str(error))
    from groundup.core.training.cost import in_short, read_cost
    from groundup.evaluate.report.lineage import add_clock, watt_hours

    target = out or root / "exports/report.html"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        add_clock(page, seconds, params, target)
    except OSError as error:
        fail(f"{target}: {error.strerror}: choose another --out")
    table = Table(title=f"what the stages took (energy: an estimate at evaluate.watts = {params.watts:g} W)")
    for column in ("stage", "minutes", "Wh", "parameters", "tokens learned from", "tokens only read", "FLOP"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, time in seconds.items():
        cost = read_cost(root / f"artifacts/reports/{stage}")
        counts = [cost.num_parameters, cost.num_learned_tokens, cost.num_read_tokens] if cost else []
        flops = [in_short(cost.flops)] if cost else []
        clock = f"{time / 60:.1f}", f"{watt_hours(time, params):.2g}"
        table.add_row(stage, *clock, *(f"{count:,}" for count in counts), *flops)
    total = sum(seconds.values())
    table.add_section()
    table.add_row("together", f"{total / 60:.1f}", f"{watt_hours(total, params):.2g}")
    console.print(table)
    console.print(f"The page is {target}", highlight=False, soft_wrap=True)
