"""The registered model: its versions, and which of them has the alias champion."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

NAME = "groundup-assistant"
CHAMPION = "champion"
GATES = "gates"  # tag of a version: PASSED or FAILED
PASSED, FAILED = "passed", "failed"
FAILED_GATES = "gates.failed"  # tag of a version that failed: what the gates said
HISTORY = "champions"  # tag of the registered model: the versions that had the alias, the current one last
MAX_HISTORY = 100


class RegistryError(ValueError):
    """The registry cannot do what was requested; the message says why, and what to do."""


def registered_model(client: MlflowClient) -> RegisteredModel | None:
    try:
        return client.get_registered_model(NAME)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def ensure_registered_model(client: MlflowClient) -> None:
    if registered_model(client) is None:
        client.create_registered_model(
            NAME, description="Aligned models of groundup: a version for each run of evaluate. docs/registry.md"
        )


def versions(client: MlflowClient) -> dict[str, ModelVersion]:
    """Versions by number, oldest first."""
    found = client.search_model_versions(f"name = '{NAME}'")
    return {str(version.version): version for version in sorted(found, key=lambda v: int(v.version))}


def model_id(version: ModelVersion) -> str:
    """Id of the LoggedModel behind the version."""
    return str(version.source).removeprefix("models:/")


def champion(client: MlflowClient) -> str | None:
    """The number of the version that has the alias."""
    model = registered_model(client)
    return str(model.aliases[CHAMPION]) if model and CHAMPION in model.aliases else None


def require_champion(client: MlflowClient) -> str:
    if (number := champion(client)) is None:
        raise RegistryError(
            f"{NAME} has no {CHAMPION} yet: `dvc repro` gives the alias to a model that passes evaluate.gates, "
            "`groundup promote --to champion VERSION` to a version that has passed them"
        )
    return number


def set_champion(client: MlflowClient, number: str) -> None:
    """Give the alias to a version. The history is written first; after a kill in between, the alias still decides."""
    history = _history(client)
    if history[-1:] != [number]:
        _note(client, [*history, number])
    client.set_registered_model_alias(NAME, CHAMPION, number)


def promote(client: MlflowClient, number: str) -> None:
    """Give the alias to a version that has passed the gates."""
    known = versions(client)
    if number not in known:
        there = f"it has {', '.join(known)}" if known else "it has none yet: `dvc repro` makes the first"
        raise RegistryError(f"{NAME} has no version {number}: {there}")
    tags = known[number].tags
    if tags.get(GATES) != PASSED:
        said = tags.get(FAILED_GATES) or "it has no verdict"
        raise RegistryError(
            f"version {number} has not passed the gates ({said}), and only a version that has can be {CHAMPION}: "
            "change evaluate.gates if they are wrong, and `dvc repro` judges the model again"
        )
    set_champion(client, number)


def rollback(client: MlflowClient) -> tuple[str, str]:
    """Give the alias back to the previous champion; returns the numbers of the current and the previous one."""
    present = require_champion(client)
    known = versions(client)
    history = _history(client)[:-1]
    while history and (history[-1] not in known or history[-1] == present):
        history.pop()
    if not history:
        raise RegistryError(
            f"no version that was {CHAMPION} before version {present} still exists: "
            "`groundup promote --to champion VERSION` names one"
        )
    client.set_registered_model_alias(NAME, CHAMPION, history[-1])
    _note(client, history)
    return present, history[-1]


def _history(client: MlflowClient) -> list[str]:
    """The history up to the version that has the alias now, which may have been moved in MLflow's UI."""
    model = registered_model(client)
    history = str(model.tags.get(HISTORY, "")).split() if model else []
    present = champion(client)
    if present is None:
        return history
    if present not in history:
        return [*history, present]
    last = len(history) - 1 - history[::-1].index(present)
    return history[: last + 1]


def _note(client: MlflowClient, history: list[str]) -> None:
    client.set_registered_model_tag(NAME, HISTORY, " ".join(history[-MAX_HISTORY:]))
