"""The groundup command. Heavy imports are inside the commands, so that each command imports only what it needs."""

import logging
import os
import sys
from typing import Annotated

import typer
from rich.table import Table

from groundup.app.cli import (
    compare,
    configure,
    export,
    feedback,
    fetch,
    launch,
    merge,
    nodes,
    plan,
    registry,
    report,
    serve,
)
from groundup.app.cli.checkout import console, fail, find_root, say_wrong
from groundup.app.cli.store import reach_store, store_errors
from groundup.runner.base import LOCK, read_lock
from groundup.runner.device import resolve_device
from groundup.runner.environment import (
    BACKEND_STORE_URI,
    DELIVERY,
    SHOW_DOWNLOADS,
    main_root,
    set_defaults,
    set_environment,
    tracking_store,
)
from groundup.runner.figures import as_text
from groundup.runner.launch.settings import read_launch
from groundup.runner.params import ParamsError
from groundup.runner.pipeline import PipelineError
from groundup.runner.redact import redact

app = typer.Typer(
    help="Build a chat assistant from raw text: dvc repro trains it, these commands use it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(feedback.app, name="feedback")
app.command()(serve.serve)
app.command()(registry.promote)
app.command()(registry.rollback)
app.command()(export.export)
app.command()(merge.merge)
app.command()(report.report)
app.command()(compare.compare)
app.command()(fetch.fetch)
app.command()(configure.configure)
app.command()(plan.plan)
app.command()(launch.launch)
app.command()(nodes.nodes)


@app.callback()
def prepare_process(context: typer.Context) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    downloads = context.invoked_subcommand == "fetch"
    if downloads:
        set_defaults(SHOW_DOWNLOADS)
    set_environment(offline=not downloads)


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000) -> None:
    """Start the MLflow UI for the runs of this checkout."""
    root = find_root()
    uri, _ = tracking_store(root)
    if uri.startswith(("http:", "https:")):
        fail(f"MLFLOW_TRACKING_URI points to {redact(uri)}: open that address in a browser")
    if problem := reach_store(root):
        console.print(f"MLflow: {problem}", style="yellow", highlight=False)
    from groundup.runner.tracking.check import EXPERIMENT
    from groundup.runner.tracking.store import open_store

    with store_errors():
        experiment = open_store(uri).get_experiment_by_name(EXPERIMENT)
    # Without the parameter, MLflow's UI opens on traces of agents, whatever kind the experiment has.
    runs = f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning" if experiment else ""
    console.print(f"MLflow UI on http://127.0.0.1:{port}/{runs} (Ctrl-C ends it)", highlight=False, soft_wrap=True)
    os.environ[BACKEND_STORE_URI] = uri  # in the environment, because every user of the machine can read arguments
    hosts = f"127.0.0.1:{port},localhost:{port}"  # pages of other sites must not send requests through the browser
    arguments = ["server", "--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", hosts, "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


@app.command()
def lineage() -> None:
    """Show which run produced each current output, and from which runs."""
    from groundup.runner.lineage import NotedRuns, StoredRuns, present_lineage

    root = find_root()
    try:
        base = read_lock(root)
        nodes = present_lineage(root, NotedRuns(root))
    except ValueError as error:
        fail(str(error))
    if not nodes:
        fail("no stage has run yet: `dvc repro` runs them all")
    if problem := reach_store(root):
        console.print(
            f"MLflow does not answer ({problem}): these are the records of this machine",
            style="yellow",
            highlight=False,
        )
    else:
        with store_errors():
            nodes = present_lineage(root, StoredRuns(tracking_store(root)[0]))
    table = Table(title="from raw text to the aligned model")
    for column in ("stage", "made by run", "from runs", "outputs", "figures"):
        table.add_column(column, overflow="fold")
    for name, node in nodes.items():
        stale = node.stale_parents(nodes)
        parents = [
            f"{parent} {made}" + (" (rerun since)" if parent in stale else "") for parent, made in node.parents.items()
        ]
        if base and LOCK in node.spec.inputs:
            parents.append(f"base {base.name} ({base.licence})")
        figures = [f"{key} {as_text(node.figures[key])}" for key in node.spec.shown if key in node.figures]
        outs = [out.removeprefix("artifacts/") for out in node.spec.outs if "/reports/" not in out]
        table.add_row(
            name,
            str(node.made),
            "\n".join(parents) or "sources",
            ", ".join(outs),
            "\n".join(figures),
        )
    console.print(table)


@app.command()
def deliver() -> None:
    """Send the waiting data of earlier runs to MLflow."""
    from groundup.runner.tracking.spool import claimed, waiting

    root = find_root()
    works, damaged = waiting(main_root(root) / ".work")
    for damage in damaged:
        say_wrong(str(damage))
    if not works:
        console.print("nothing else waits for delivery" if damaged else "nothing waits for delivery", highlight=False)
        raise typer.Exit(1 if damaged else 0)
    if problem := reach_store(root):
        fail(f"{len(works)} runs wait, and MLflow cannot take them now: {problem}")
    set_defaults(DELIVERY)
    from groundup.runner.tracking.deliver import MLFLOW_ERRORS, first_line
    from groundup.runner.tracking.deliverer import Deliverer
    from groundup.runner.tracking.store import open_store

    uri, artifact_location = tracking_store(root)
    with store_errors():
        client = open_store(uri)
    failures = len(damaged)
    for work in works:
        name = work.relative_to(main_root(root))
        try:
            with claimed(work) as free:
                if free:
                    Deliverer(work, client, artifact_location).deliver()
            console.print(f"delivered {name}" if free else f"{name} is being delivered by its stage", highlight=False)
        except MLFLOW_ERRORS as error:
            failures += 1
            say_wrong(f"{name} could not be delivered and stays for another try: {first_line(error)}")
    if failures:
        raise typer.Exit(1)


@app.command()
def clean(
    dry_run: Annotated[bool, typer.Option(help="Show what would be removed; remove nothing.")] = False,
    undelivered: Annotated[bool, typer.Option(help="Also remove runs that were not uploaded to MLflow.")] = False,
) -> None:
    """Remove work directories that no stage needs."""
    from groundup.runner.clean import clean as clean_work_dirs

    root = find_root()
    freed = 0
    try:
        for verdict in clean_work_dirs(root, undelivered, dry_run):
            freed += verdict.num_bytes if verdict.stale else 0
            action = "kept" if not verdict.stale else "would remove" if dry_run else "removed"
            name = verdict.work.relative_to(main_root(root))
            console.print(
                f"{action} {name} ({verdict.num_bytes / 1e6:.1f} MB): {verdict.reason}",
                highlight=False,
                soft_wrap=True,
            )
    except (ParamsError, PipelineError) as error:
        fail(str(error))
    console.print(f"{freed / 1e6:.1f} MB {'would be freed' if dry_run else 'freed'}", highlight=False)


@app.command()
def chat(
    model: Annotated[str, typer.Option(help="base, sft, aligned, champion or a merged model in models/.")] = "aligned",
    decode: Annotated[
        str, typer.Option(help='greedy, sample, beam, best_of_n or tree, settings after it: "sample top_p=0.9".')
    ] = "sample",
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest reply, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 always picks the likeliest token.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed and input give the same replies.")] = None,
) -> None:
    """Talk to a model. From a pipe, each line starts a conversation. Defaults: evaluate.decoding in params.yaml."""
    import torch

    from groundup.app.chat.loading import Models
    from groundup.app.chat.session import chat as talk
    from groundup.core.decoding import make_decoding, parse_decoding
    from groundup.runner.params import load_params

    root = find_root()
    set_values = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    try:
        decoding = parse_decoding(decode, load_params(root / "params.yaml").evaluate.decoding)
        changes = {name: value for name, value in set_values.items() if value is not None}
        decoding = make_decoding(decoding.method, decoding, changes)
        talk(Models(root, torch.device(resolve_device(read_launch(root)))), model, decoding, sys.stdin, sys.stdout)
    except (FileNotFoundError, ValueError, PipelineError) as error:
        fail(str(error))


if __name__ == "__main__":
    app()
