"""`groundup fetch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from groundup.app.cli.checkout import console, fail, find_root
from groundup.runner.disk import DiskError
from groundup.runner.pipeline import PipelineError

if TYPE_CHECKING:
    from groundup.app.fetch.fetch import Fetched


def fetch(
    model: Annotated[
        str | None,
        typer.Argument(help="smollm2-135m, or owner/name@COMMIT of the hub (all 40 digits).", show_default=False),
    ] = None,
    path: Annotated[
        Path | None, typer.Option("--from", help="A folder with a model, or a GGUF file.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", help="Name of its folder in models/; default: its own.", show_default=False)
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(help="Check a model in models/ and show it; nothing is downloaded.", show_default=False),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the model's licence and accept it.")
    ] = False,
) -> None:
    """Bring an open model to models/; no other command downloads one. It says what it found."""
    root = find_root()
    if (check is not None) is (model is not None or path is not None):
        fail("use either MODEL, or --from PATH, or --check NAME: `groundup fetch --help`")
    from groundup.app.fetch import fetch as fetching

    try:
        if check is not None:
            fetched = fetching.check(root, check)
        else:
            source = fetching.find_source(model, path)
            fetched = fetching.fetch(root, source, name or source.name, accept_licence)
    except (ValueError, DiskError, PipelineError, OSError) as error:
        fail(str(error))
    show(fetched)


def show(fetched: "Fetched") -> None:
    from groundup.app.fetch.found import sentences

    base = fetched.base
    table = Table(title=f"models/{base.name}", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    accepted = " (accepted by --accept-licence)" if base.licence_accepted else ""
    for subject, text in sentences(fetched.found, base.licence + accepted):
        table.add_row(subject, text.replace("[", r"\["))
    console.print(table)
    console.print(f"`groundup configure --base {base.name}` starts training from it.", highlight=False, soft_wrap=True)
