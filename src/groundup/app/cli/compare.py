"""`groundup compare`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from groundup.app.cli.checkout import console, fail, find_root


def compare(
    names: Annotated[
        list[str] | None, typer.Argument(help="Experiments of DVC, or workspace; default: all.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The picture; default: exports/compare.png.")] = None,
) -> None:
    """Compare experiments by what they changed and by the headline figures in which they differ."""
    root = find_root()
    from groundup.app.compare.experiments import read_comparison
    from groundup.app.compare.picture import draw  # imports matplotlib

    try:
        found = read_comparison(root, names or ())
    except ValueError as error:
        fail(str(error))
    if found.unfinished:
        console.print(f"not finished: {', '.join(found.unfinished)}", highlight=False)
    if len(found.experiments) < 2 or not found.figures:
        fail(
            "there is nothing to compare: `dvc exp run -S align.seed=5` makes an experiment, and `groundup compare` "
            "shows in which figures it differs"
        )
    table = Table(Column("", no_wrap=True), *(Column(it.name, overflow="fold") for it in found.experiments))
    for name in found.changed:
        table.add_row(name, *(str(it.params.get(name, "")) for it in found.experiments))
    table.add_section()
    for name in found.figures:
        table.add_row(name, *(str(it.figures.get(name, "")) for it in found.experiments))
    console.print(table)
    target = out or root / "exports/compare.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(draw(found))
    console.print(f"intervals are 95 %; the picture is {target}", highlight=False, soft_wrap=True)
