"""The groundup command. Heavy imports stand inside the commands, so that each pays only for its own."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from groundup.frame.environment import main_root, set_environment, tracking_store
from groundup.frame.pipeline import PipelineError

app = typer.Typer(
    help="Raise a foundation model from the ground up: dvc repro trains it, these commands use it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

HEADLINES = {
    "prepare": ("num_documents_train", "num_preference_pairs_train"),
    "tokenizer": ("vocab_size", "bytes_per_token"),
    "pretrain": ("val_bits_per_byte", "num_parameters"),
    "sft": ("val_loss",),
    "reward": ("heldout_accuracy", "length_only_accuracy"),
    "align": ("heldout_reward_before", "heldout_reward_after", "kl_to_reference"),
    "evaluate": ("win_rate_vs_sft",),
}


def find_root() -> Path:
    """The checkout around the current folder."""
    folders = (Path.cwd(), *Path.cwd().parents)
    root = next((f for f in folders if (f / "dvc.yaml").is_file() and (f / "stages").is_dir()), None)
    return root or fail("no groundup checkout here: change into the folder that holds dvc.yaml")


def fail(message: str) -> NoReturn:
    console.print(message, style="red", highlight=False)
    raise typer.Exit(1)


@app.callback()
def prepare_process() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    set_environment(offline=True)


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000) -> None:
    """Open the MLflow UI on this checkout's runs."""
    uri, _ = tracking_store(find_root())
    if not uri.startswith("sqlite:"):
        fail(f"MLFLOW_TRACKING_URI points to {uri}: open that address in a browser")
    console.print(f"MLflow UI on http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
    arguments = ["server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


@app.command()
def lineage() -> None:
    """Show which run made each present output, and from which runs."""
    from groundup.frame.lineage import TagReader, present_lineage

    root = find_root()
    nodes = present_lineage(root, TagReader(tracking_store(root)[0]))
    if not nodes:
        fail("no stage has run yet: `dvc repro` runs them all")
    table = Table(title="from raw text to the aligned model")
    for column in ("stage", "made by run", "from runs", "outputs", "figures"):
        table.add_column(column, overflow="fold")
    for node in nodes.values():
        stale = node.stale_parents(nodes)
        parents = [
            f"{name} {run_id[:8]}" + (" (rerun since)" if name in stale else "")
            for name, run_id in node.parents.items()
        ]
        figures = [f"{key} {figure(node.metrics[key])}" for key in HEADLINES[node.stage] if key in node.metrics]
        outs = [out.removeprefix("artifacts/") for out in node.outs if "/reports/" not in out]
        table.add_row(
            node.stage,
            node.run_id[:8] if node.run_id else f"fingerprint {node.fingerprint[:8]}",
            "\n".join(parents) or "sources",
            ", ".join(outs),
            "\n".join(figures),
        )
    console.print(table)


def figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


@app.command()
def deliver() -> None:
    """Send to MLflow what earlier runs could not deliver."""
    from mlflow.exceptions import MlflowException

    from groundup.frame.lock import locked
    from groundup.frame.tracking.deliver import Deliverer
    from groundup.frame.tracking.spool import EVENTS, is_delivered

    root = find_root()
    waiting = [
        path.parent
        for path in sorted((main_root(root) / ".work").glob(f"*/*/{EVENTS}"))
        if not is_delivered(path.parent)
    ]
    failures = 0
    for work in waiting:
        name = work.relative_to(main_root(root))
        try:
            with locked(work):
                Deliverer(work, *tracking_store(root)).deliver()
            console.print(f"delivered {name}", highlight=False)
        except (MlflowException, OSError, PipelineError) as error:
            failures += 1
            console.print(f"{name} could not be delivered and stays: {error}", style="red", highlight=False)
    console.print(f"{len(waiting) - failures} of {len(waiting)} waiting runs delivered", highlight=False)
    if failures:
        raise typer.Exit(1)


@app.command()
def chat(
    model: Annotated[str, typer.Option(help="base, sft or aligned.")] = "aligned",
    max_new_tokens: Annotated[int, typer.Option(help="Longest reply, in tokens.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.7,
    seed: Annotated[int, typer.Option(help="The same seed and input give the same replies.")] = 0,
) -> None:
    """Talk to a model; from a pipe, each line is an opening of its own."""
    from groundup.assistant.chat import chat_loop

    try:
        chat_loop(find_root() / "artifacts" / model, sys.stdin, sys.stdout, max_new_tokens, temperature, seed)
    except (FileNotFoundError, ValueError, PipelineError) as error:
        fail(str(error))


if __name__ == "__main__":
    app()
