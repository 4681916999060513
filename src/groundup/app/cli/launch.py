"""groundup launch: how the stages would be started, and files that start them on a cluster."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from ruamel.yaml import YAML

from groundup.app.cli.checkout import console, fail, find_root
from groundup.runner.launch.clusters import FILES, Cluster
from groundup.runner.launch.launchers import LAUNCHERS
from groundup.runner.launch.settings import SETTINGS, Launch, LaunchError, read_launch
from groundup.runner.pipeline import read_pipeline


def launch(
    stage: Annotated[str | None, typer.Argument(help="One stage; without it, all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how `dvc repro` would start the stages.")] = False,
    file_for: Annotated[
        str | None, typer.Option("--file-for", help="sky or kubernetes: print the file that starts all nodes there.")
    ] = None,
    image: Annotated[str, typer.Option(help="Container image of the nodes, for --file-for.")] = "",
    volume: Annotated[str, typer.Option(help="Volume with the checkout, for --file-for.")] = "",
    accelerator: Annotated[str, typer.Option(help="GPU as SkyPilot calls it, such as H100.")] = "",
) -> None:
    """Show how launch.yaml and variables would start the stages, or print the file that starts them on a cluster."""
    root = find_root()
    try:
        launches = stage_launches(root, stage)
        if file_for:
            file = cluster_file(file_for, list(launches.values()), Cluster(image, volume, accelerator))
            YAML().dump(file, sys.stdout)
            return
    except ValueError as error:
        fail(str(error))
    if not dry_run:
        fail("`dvc repro` starts stages; `groundup launch --dry-run` shows how")
    table = Table("setting", "value", "stages")
    for setting in SETTINGS:
        stages: dict[str, list[str]] = {}
        for name, it in launches.items():
            stages.setdefault(as_written(getattr(it, setting)), []).append(name)
        for value, names in stages.items():
            table.add_row(setting, value, "all" if len(stages) == 1 else ", ".join(names))
    console.print(table)
    for name, it in launches.items():
        if it.is_spread:
            console.print(f"\n{name}:", style="bold")
            console.print(LAUNCHERS[it.launcher].text(it, name), markup=False, highlight=False, soft_wrap=True)


def as_written(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def stage_launches(root: Path, stage: str | None) -> dict[str, Launch]:
    pipeline = read_pipeline(root)
    if stage not in (None, *pipeline):
        raise LaunchError(f"dvc.yaml has no stage {stage}; it has {', '.join(pipeline)}")
    return {name: read_launch(root, name) for name in pipeline if stage in (None, name)}


def cluster_file(kind: str, launches: list[Launch], cluster: Cluster) -> dict[str, object]:
    """For the largest numbers of nodes and of processes that a stage has. LaunchError lists all that is missing."""
    spread = [it for it in launches if it.is_spread] or launches
    largest = replace(spread[0], nodes=max(it.nodes for it in spread), processes=max(it.processes for it in spread))
    problems = []
    if kind not in FILES:
        problems.append(f"--file-for {kind}: use {' or '.join(FILES)}")
    if largest.launcher != "nodes":
        problems.append("such a file starts the stages by `groundup nodes`: set `launcher: nodes` in launch.yaml")
    problems += [f"--{name} is missing" for name in ("image", "volume") if not getattr(cluster, name)]
    if kind == "sky" and largest.device == "cuda" and not cluster.accelerator:
        problems.append("--accelerator is missing: SkyPilot's name of the GPU, such as H100")
    if problems:
        raise LaunchError("\n".join(problems))
    return FILES[kind](largest, cluster)
