"""Attach the report's page to evaluate's run and to the registered version of its model."""

from pathlib import Path

from mlflow import MlflowClient

from groundup.runner.tracking import registry
from groundup.runner.tracking.store import resolve_run

FOLDER = "report"  # in the artifacts of the registered model, beside gates.json


def attach(client: MlflowClient, fingerprint: str, page: Path) -> list[str]:
    """Attach the page; returns what it was attached to, in words. fingerprint: that of evaluate's run."""
    run_id = resolve_run(client, fingerprint)
    if run_id is None:
        return []
    client.log_artifact(run_id, str(page))
    attached = [f"run {run_id[:8]}"]
    if registry.registered_model(client):
        for version in client.search_model_versions(f"name = '{registry.NAME}' and run_id = '{run_id}'"):
            client.log_model_artifact(registry.model_id(version), str(page), FOLDER)
            attached.append(f"version {version.version} of {registry.NAME}")
    return attached
