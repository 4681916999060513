"""`groundup report`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from groundup.app.cli.checkout import console, fail, find_root
from groundup.app.cli.store import reach_store
from groundup.runner.candidate import STAGE
from groundup.runner.environment import tracking_store
from groundup.runner.figures import Record, read_record
from groundup.runner.files import write_text
from groundup.runner.params import ParamsError, load_params

PAGE = "artifacts/report/report.html"


def report(
    out: Annotated[Path | None, typer.Option(help=f"Where to write the page; default: {PAGE}.")] = None,
) -> None:
    """Write the report as one HTML page, attach it to evaluate's run in MLflow, and show the main figures."""
    from groundup.app.report.build import build_page

    root = find_root()
    if not any((root / "artifacts/reports").glob("*/*")):
        fail("there is nothing to report yet: `dvc repro` runs the stages, `dvc checkout` brings back what they made")
    page = out or root / PAGE
    try:
        params = load_params(root / "params.yaml").evaluate
        html = build_page(root, params)
        lines = list(summary(root, params.watts))
        record = read_record(root, STAGE)
    except (ParamsError, ValueError) as error:
        fail(str(error))
    try:
        write_text(page, html)
    except OSError as error:
        fail(f"{page}: {error.strerror}: choose another --out")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    shown = page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page
    console.print(f"report: {shown}{attached(root, record, page)}", highlight=False, markup=False, soft_wrap=True)
    console.print("next: `groundup chat` talks to the model, `groundup ui` opens all runs", highlight=False)


def summary(root: Path, watts: float) -> Iterator[str]:
    """The main figures, each with a value to compare it with."""
    from groundup.app.report.build import read_costs, read_evaluated
    from groundup.app.report.lineage import time_note
    from groundup.runner.clock import stage_seconds

    costs, seconds, evaluated = read_costs(root), stage_seconds(root), read_evaluated(root)
    if "pretrain" in costs:
        yield f"parameters: {costs['pretrain'].num_parameters:,}"
    if evaluated is None:
        yield "not evaluated yet: `dvc repro` resumes, `dvc checkout evaluate` brings back the last figures"
    else:
        yield from (f"{tile['label']}: {tile['value']} ({tile['note']})" for tile in evaluated["tiles"])
    if seconds:
        yield f"time: {time_note(sum(seconds.values()), watts)} at {watts:g} W"
    if (root / "artifacts/aligned").exists():
        yield "model: artifacts/aligned"


def attached(root: Path, record: Record | None, page: Path) -> str:
    """Attach the page to the run that produced the figures; returns where, or why not."""
    if record is None:
        return ""
    if problem := reach_store(root):
        return f" (not in MLflow: {problem})"
    from groundup.runner.tracking.attach import attach
    from groundup.runner.tracking.deliver import MLFLOW_ERRORS, first_line
    from groundup.runner.tracking.store import open_store

    try:
        places = attach(open_store(tracking_store(root)[0]), record.fingerprint, page)
    except MLFLOW_ERRORS as error:
        return f" (not in MLflow: {first_line(error)})"
    return f", also in MLflow: {', '.join(places)}" if places else " (not in MLflow, which lacks evaluate's run)"
