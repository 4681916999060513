"""groundup nodes: one command on several machines."""

from typing import Annotated

import typer

from groundup.app.cli.checkout import fail, find_root
from groundup.runner.interruption import listening
from groundup.runner.launch.nodes import NodesError, follow, lead


def nodes(
    command: Annotated[list[str], typer.Argument(help="What the first node runs, such as `dvc repro`, after `--`.")],
    node: Annotated[int, typer.Option(min=0, help="Number of this machine, from 0.")],
    head: Annotated[str, typer.Option(help="Address of machine 0, as all of them reach it.")],
    port: Annotated[int, typer.Option(help="Of machine 0; this one and the next have to be free.")] = 29400,
    wait: Annotated[float, typer.Option(help="Seconds to wait for machine 0.")] = 1800.0,
) -> None:
    """Run a command on machine 0 whose stages train on all machines that run this. They have to see one checkout."""
    root, address = find_root(), f"{head}:{port}"
    try:
        with listening() as interruption:
            if node > 0:
                follow(node, address, wait, interruption)
                return
            code = lead(address, command, root, interruption)
    except (NodesError, OSError) as error:
        fail(str(error))
    raise typer.Exit(code)
