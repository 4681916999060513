"""Adds a user to the MLflow server that MLFLOW_TRACKING_URI names, as its user admin: README.md beside this file.

For a user who is there it only grants the rights: a reader becomes a writer.
"""

import argparse
import getpass

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

from groundup.runner.redact import redact
from groundup.runner.tracking.check import EXPERIMENT
from groundup.runner.tracking.registry import ensure_registered_model

# What a stage writes. A delivery that was killed half-way removes the runs and models that it left.
GRANTS = {"experiment": "EDIT", "run": "MANAGE", "logged_model": "MANAGE", "registered_model": "EDIT"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Add a user to an MLflow server. Asks for the password of a new one.")
    parser.add_argument("name")
    parser.add_argument("--reader", action="store_true", help="may see everything, and write no run of groundup")
    arguments = parser.parse_args()
    try:
        _make_shared()
        users = get_app_client("basic-auth", tracking_uri=mlflow.get_tracking_uri())
        try:
            users.get_user(arguments.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            users.create_user(arguments.name, getpass.getpass(f"password of {arguments.name}: "))
        for kind, right in () if arguments.reader else GRANTS.items():
            users.grant_user_permission(arguments.name, kind, "*", right)
    except MlflowException as error:
        raise SystemExit(redact(f"{mlflow.get_tracking_uri()}: {error}")) from None


def _make_shared() -> None:
    """What the first stage would make, and then its user could delete."""
    client = MlflowClient()
    if client.get_experiment_by_name(EXPERIMENT) is None:
        client.create_experiment(EXPERIMENT)
    ensure_registered_model(client)


if __name__ == "__main__":
    main()
