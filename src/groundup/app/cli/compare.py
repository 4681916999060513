"""`groundup compare`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from groundup.app.cli.checkout import console, fail, find_root
from groundup.runner.pipeline import PipelineError


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Experiments of DVC, or workspace; default: all of this commit.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The picture; default: exports/compare.png.")] = None,
) -> None:
    """Compare experiments by what they changed and by the headline figures in which they differ."""
    root = find_root()
    from groundup.app.compare.experiments import read_experiments
    from groundup.app.compare.picture import draw  # imports matplotlib

    try:
        found = read_experiments(root, names or ())
    except (PipelineError, ValueError) as error:
        fail(str(error))
    if found.unfinished:
        said = ", ".join(f"{name} ({state})" for name, state in found.unfinished.items())
        console.print(f"left out: {said}", highlight=False, markup=False)
    if len(found.finished) < 2:
        fail(
            "there is nothing to compare: `dvc exp run -S align.seed=5` makes an experiment; give two names, or none "
            "for all"
        )
    table = Table(Column(no_wrap=True), *(Column(Text(it.name), overflow="fold") for it in found.finished))
    for name in found.changed:
        table.add_row(name, *(Text(str(it.params.get(name, ""))) for it in found.finished))
    table.add_section()
    for name in found.figures:
        table.add_row(name, *(str(it.figures.get(name, "")) for it in found.finished))
    console.print(table)
    if not found.figures:
        console.print("they differ in no headline figure")
        return
    target = out or root / "exports/compare.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(draw(found))
    console.print(f"intervals are 95 %; the picture is {target}", highlight=False, soft_wrap=True)
