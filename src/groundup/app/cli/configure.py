"""`groundup configure`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from groundup.app.cli.checkout import console, fail, find_root
from groundup.app.plan.sizing import count_parameters, count_tokens, resize
from groundup.core.training.cost import in_short
from groundup.runner.base import BaseError, found_base, write_lock
from groundup.runner.files import DamagedFileError, write_text
from groundup.runner.params import Params, ParamsError
from groundup.runner.params.migrate import migrate
from groundup.runner.params.presets import load_preset, preset_names, with_preset, with_values

MAX_DEPTH = 128


def configure(
    preset: Annotated[str | None, typer.Option(help="laptop, evening, gpu or smoke.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Start from this model of models/; writes base.lock too.", show_default=False)
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from random weights; writes base.lock too.")
    ] = False,
    depth: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_DEPTH, help="Number of layers; sizes, steps and rates follow. Default: the preset's."
        ),
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--migrate", help="Rewrite params.yaml of an older version with the keys of today.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes; write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
) -> None:
    """Show what a preset (with --depth: at another size) or a base changes in params.yaml, ask, and write it.

    base.lock is written with it, so that it pins what model.base names.
    """
    root = find_root()
    path = root / "params.yaml"
    derives = preset is not None or base is not None or from_scratch
    if take_over is derives or (depth is not None and preset is None) or (from_scratch and base is not None):
        fail(
            "use --preset NAME, with --depth N for another size, and one of --base NAME and --from-scratch, or one of "
            "these two alone; or --migrate"
        )
    known = preset_names(root)
    if preset is not None and preset not in known:
        fail(f"unknown preset {preset}: use {', '.join(known)}")
    try:
        start = {"model.base": base} if base is not None or from_scratch else {}
        text, params = _migrated(path) if take_over else _derived(root, preset, depth, start)
        lock = found_base(root, params.model.base)
        if text == path.read_text(encoding="utf-8"):
            _say("params.yaml needs no change.")
            if not dry_run:
                write_lock(root, lock)
        elif dry_run:
            _say("This is what would change; params.yaml was not written.")
        elif yes or not is_terminal() or typer.confirm("Write params.yaml?"):
            write_text(path, text)
            write_lock(root, lock)
            _say("params.yaml was written; `git diff params.yaml base.lock` shows the changes.")
        else:
            _say("params.yaml was not written.")
            return
    except (ParamsError, BaseError, DamagedFileError, OSError) as error:
        fail(f"params.yaml was not written. {error}")
    if lock:
        _say(f"Training starts from {lock.name} (licence: {lock.licence}). `dvc repro` runs it.")
        return
    num_parameters = count_parameters(params.model.scratch, params.tokenizer.scratch.vocab_size)
    num_tokens = count_tokens(params)
    _say(
        f"{in_short(num_parameters).strip()} parameters, {in_short(num_tokens).strip()} tokens "
        f"({num_tokens / num_parameters:.3g} per parameter). `groundup plan` estimates its time, `dvc repro` runs it."
    )


def is_terminal() -> bool:
    return sys.stdin.isatty()


def _derived(root: Path, preset: str | None, depth: int | None, start: dict[str, str | None]) -> tuple[str, Params]:
    if preset is None:
        rewrite = with_values(root, start)
    else:
        sizes = {} if depth is None else resize(load_preset(root, preset), depth)
        rewrite = with_preset(root, preset, sizes | start)
    _show(["param", "old", "new"], [[change.key, change.old, change.new] for change in rewrite.changes])
    if rewrite.keeps_sources:
        _say("Your own prepare.sources stay; the presets' sources are in presets/.")
    return rewrite.text, rewrite.params


def _migrated(path: Path) -> tuple[str, Params]:
    migration = migrate(path)
    _show(["was", "is", "value"], [[move.old, move.new, move.value] for move in migration.moves])
    return migration.text, migration.params


def _show(columns: list[str], rows: list[list[Any]]) -> None:
    """The last two columns of a row may be any value."""
    if not rows:
        return
    table = Table(title="params.yaml")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, str) else show(cell) for cell in row))
    console.print(table)


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list) and value and isinstance(value[0], dict) and "name" in value[0]:
        return ", ".join(str(item["name"]) for item in value)  # only names: the whole text is long
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
    return text.replace("[", r"\[")  # escape rich's markup
