"""`groundup configure`."""

from typing import Annotated, Any

import typer
from rich.table import Table

from groundup.app.cli.checkout import console, fail, find_root
from groundup.app.plan.sizing import count_parameters, count_tokens, resize
from groundup.core.training.cost import in_short
from groundup.runner.params import ParamsError, load_params
from groundup.runner.params.rewrite import rewrite

MAX_DEPTH = 128


def configure(
    preset: Annotated[str, typer.Option(help="laptop, evening, gpu, cluster or smoke: a file of presets/.")],
    depth: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_DEPTH, help="Layers; all that depends on the size follows. Left out: the preset."),
    ] = None,
) -> None:
    """Write a preset into params.yaml, at another size with --depth, and show what changed."""
    root = find_root()
    path, source = root / "params.yaml", root / "presets" / f"{preset}.yaml"
    known = sorted(file.stem for file in (root / "presets").glob("*.yaml"))
    if preset not in known:
        fail(f"there is no preset {preset}: use {', '.join(known)}")
    try:
        chosen = load_params(source)
        changes = rewrite(path, source, {} if depth is None else resize(chosen, depth))
        params = load_params(path)
    except (ParamsError, OSError) as error:
        fail(f"params.yaml is as it was. {error}")
    if changes:
        table = Table(title="params.yaml")
        for column in ("param", "old", "new"):
            table.add_column(column, overflow="fold")
        for change in changes:
            table.add_row(change.key, show(change.old), show(change.new))
        console.print(table)
    num_parameters = count_parameters(params.model, params.tokenizer.vocab_size)
    num_tokens = count_tokens(params)
    console.print(
        f"{len(changes) or 'no'} changed values. {in_short(num_parameters).strip()} parameters, "
        f"{in_short(num_tokens).strip()} tokens ({num_tokens / num_parameters:.3g} a parameter). `groundup plan` says "
        "what it takes, `dvc repro` runs it, `git diff params.yaml` shows it again.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list) and value and isinstance(value[0], dict) and "name" in value[0]:
        return ", ".join(str(item["name"]) for item in value)  # sources and gates, whose whole text is long
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
    return text.replace("[", r"\[")  # no markup
