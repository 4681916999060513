"""Adds a user to the MLflow server that MLFLOW_TRACKING_URI names, as its user admin: README.md beside this file."""

import argparse
import getpass

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

WRITES = ("experiment", "registered_model")  # runs of the stages, and versions of the model


def main() -> None:
    parser = argparse.ArgumentParser(description="Add a user to an MLflow server. Asks for the user's password.")
    parser.add_argument("name")
    parser.add_argument("--reader", action="store_true", help="may see everything and write nothing")
    arguments = parser.parse_args()
    uri = mlflow.get_tracking_uri()
    client = get_app_client("basic-auth", tracking_uri=uri)
    try:
        client.create_user(arguments.name, getpass.getpass(f"password of {arguments.name}: "))
        for kind in () if arguments.reader else WRITES:
            client.grant_user_permission(arguments.name, kind, "*", "EDIT")
    except MlflowException as error:
        raise SystemExit(f"{uri}: {error}") from None


if __name__ == "__main__":
    main()
