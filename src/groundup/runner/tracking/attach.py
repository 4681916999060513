"""A page beside the figures that it shows: into evaluate's run, and into the version of its model."""

from pathlib import Path

from mlflow import MlflowClient

from groundup.runner.tracking import registry
from groundup.runner.tracking.store import resolve_run

FOLDER = "report"  # of the registered model, where gates.json is too


def attach(client: MlflowClient, fingerprint: str, page: Path) -> list[str]:
    """What it was attached to, in words. fingerprint: of evaluate's run."""
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
