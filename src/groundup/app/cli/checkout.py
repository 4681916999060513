"""Helpers of all commands: find the checkout, report errors."""

from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console

from groundup.runner.environment import NO_CHECKOUT, find_checkout, main_root

console = Console()


def find_root() -> Path:
    """The checkout around the current folder; ends the command if there is none."""
    return find_checkout() or fail(NO_CHECKOUT)


def feedback_file(root: Path) -> Path:
    """The file where `groundup serve` stores thumbs and `groundup feedback import` reads them."""
    return main_root(root) / ".work/feedback/feedback.jsonl"


def say_wrong(message: str) -> None:
    # Whole lines, so that commands in them can be copied; brackets are not markup.
    console.print(message, style="red", highlight=False, markup=False, soft_wrap=True)


def fail(message: str) -> NoReturn:
    say_wrong(message)
    raise typer.Exit(1)
