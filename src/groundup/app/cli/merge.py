"""`groundup merge`."""

from pathlib import Path
from typing import Annotated

import typer

from groundup.app.cli.checkout import console, fail, find_root
from groundup.runner.base import models_folder
from groundup.runner.params.section import MODEL_NAME


def merge(
    model: Annotated[str, typer.Argument(help="A model in models/, or a folder with one.", show_default=False)],
    adapters: Annotated[
        list[Path],
        typer.Argument(help="Folders of `groundup export --to adapter`, the first trained first.", show_default=False),
    ],
    name: Annotated[str, typer.Option("--as", help="Name of the merged model's folder in models/.")],
) -> None:
    """Merge adapters into a model. `groundup chat --model NAME` talks to it."""
    root = find_root()
    if not MODEL_NAME.fullmatch(name):
        fail(f"{name!r} is not a name of a model: use letters, digits, '.', '_' and '-' (--as NAME)")
    folder = models_folder(root) / model if MODEL_NAME.fullmatch(model) else Path(model)
    if not (folder / "config.json").is_file():
        fail(f"there is no model in {folder}: `groundup fetch` brings one, or name a folder")
    from groundup.app.export.merge import merge_adapters

    target = models_folder(root) / name
    try:
        merge_adapters(folder, adapters, target)
    except ValueError as error:
        fail(str(error))
    console.print(f"{target} holds the merged model: `groundup chat --model {name}`", highlight=False, soft_wrap=True)
