"""`groundup serve`."""

import ipaddress
import logging
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from groundup.app.cli.checkout import console, fail, feedback_file, find_root
from groundup.app.serve.settings import Settings
from groundup.runner.device import resolve_device
from groundup.runner.environment import API_KEY
from groundup.runner.launch.settings import read_launch

MODELS = ("aligned", "sft", "base")  # the page starts with the first one that exists
MAX_BODY_BYTES = 1 << 20
BODY_TIMEOUT = 10.0  # seconds
MAX_FEEDBACK_BYTES = 1 << 26


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(help="aligned, sft, base or champion; repeatable. Default: all except champion."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; one that others reach needs a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65535)] = 8000,
    max_batch: Annotated[int, typer.Option(help="Replies that share forward passes, per model.")] = 16,
    max_queue: Annotated[int, typer.Option(help="Replies that may wait; a request beyond that gets status 429.")] = 64,
    max_choices: Annotated[int, typer.Option(help="Most replies per request (n).")] = 8,
    max_tokens: Annotated[int, typer.Option(help="Most tokens per reply.")] = 512,
    max_search_tokens: Annotated[
        int, typer.Option(help="Tokens that beam, best_of_n and tree may spend per reply.")
    ] = 4096,
    request_timeout: Annotated[float, typer.Option(help="Seconds per request, waiting included.")] = 60.0,
    shutdown_timeout: Annotated[int, typer.Option(help="Seconds for replies to finish after a stop signal.")] = 30,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=API_KEY,
            show_envvar=True,
            help="Key that clients must send. Other users can read arguments; prefer the variable.",
        ),
    ] = None,
) -> None:
    """Serve the models: a chat page and an OpenAI-compatible API."""
    root = find_root()
    hosts = allowed_hosts(host)
    if not hosts and not api_key:
        fail(f"--host {host} lets others reach this server: set a key in {API_KEY}")
    settings = Settings(
        max_batch=max_batch,
        max_queue=max_queue,
        max_choices=max_choices,
        max_tokens=max_tokens,
        max_search_tokens=max_search_tokens,
        max_body_bytes=MAX_BODY_BYTES,
        request_timeout=request_timeout,
        body_timeout=BODY_TIMEOUT,
        api_key=api_key,
        allowed_hosts=hosts,
        feedback_file=feedback_file(root),
        max_feedback_bytes=MAX_FEEDBACK_BYTES,
    )
    if problems := settings.problems():
        fail("; ".join(problems))
    names = chosen_models(root, model)
    with listen(host, port) as listener:  # before the models are loaded, which takes time
        run(listener, root, names, settings, shutdown_timeout)


def listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        fail(
            f"cannot listen on {host}, port {port} ({os.strerror(error.errno or 0)}): choose another --port or --host"
        )
    # Connections inherit it. Without it, each token waits until the client acknowledges the one before: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def run(listener: socket.socket, root: Path, names: list[str], settings: Settings, shutdown_timeout: int) -> None:
    import torch
    from uvicorn import Config, Server

    from groundup.app.chat.loading import Models
    from groundup.app.serve.app import create_app
    from groundup.app.serve.served import load_models, make_find
    from groundup.runner.params import load_params

    try:
        numbers = load_params(root / "params.yaml").evaluate.decoding
        models = Models(root, torch.device(resolve_device(read_launch(root))))
        app = create_app(load_models(models, names), settings, make_find(models, numbers, settings.max_search_tokens))
    except (FileNotFoundError, ValueError) as error:
        fail(str(error))
    logging.getLogger("groundup.app.serve").setLevel(logging.INFO)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    console.print(f"{', '.join(names)} on http://{shown}:{port} (Ctrl-C ends it)", highlight=False)
    config = Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=shutdown_timeout
    )
    try:
        Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises the signal again after shutting down
        raise typer.Exit(130) from None


def allowed_hosts(host: str) -> list[str]:
    """Host names for this machine's own addresses; empty if other machines can reach the address."""
    if host == "localhost":
        return ["localhost", "127.0.0.1"]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        fail(f"--host {host} is not an address: give an IP address, such as 127.0.0.1")
    if not address.is_loopback:
        return []
    return [f"[{host}]" if address.version == 6 else host, "localhost"]


def chosen_models(root: Path, names: list[str] | None) -> list[str]:
    if names is None:
        found = [name for name in MODELS if (root / "artifacts" / name).is_dir()]
        return found or fail(f"there is no model in {root / 'artifacts'}: train one with `dvc repro`")
    return list(dict.fromkeys(names))
