"""`groundup promote` and `groundup rollback`."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from groundup.app.cli.checkout import console, fail, find_root
from groundup.app.cli.store import reach_store, store_errors
from groundup.runner.environment import tracking_store

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Alias(StrEnum):
    champion = "champion"


def promote(
    version: Annotated[str, typer.Argument(help="Version number of groundup-assistant.")],
    to: Annotated[Alias, typer.Option(help="The alias to give it.")],
) -> None:
    """Make a version that passed the gates the champion."""
    with open_registry() as client:
        from groundup.runner.tracking import registry

        before = registry.champion(client)
        registry.promote(client, version)
        was = f" (it was version {before})" if before not in (None, version) else ""
        console.print(f"version {version} of {registry.NAME} is {to.value} now{was}", highlight=False)


def rollback() -> None:
    """Make the previous champion the champion again."""
    with open_registry() as client:
        from groundup.runner.tracking import registry

        present, former = registry.rollback(client)
        console.print(f"version {former} of {registry.NAME} is champion again, not {present}", highlight=False)


@contextmanager
def open_registry() -> Iterator["MlflowClient"]:
    root = find_root()
    if problem := reach_store(root):
        fail(f"the versions are in MLflow, which cannot be reached now: {problem}")
    from groundup.runner.tracking.registry import RegistryError
    from groundup.runner.tracking.store import open_store

    with store_errors():
        try:
            yield open_store(tracking_store(root)[0])
        except RegistryError as error:
            fail(str(error))
