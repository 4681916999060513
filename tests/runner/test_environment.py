"""The variables that the runner takes from the environment."""

from pathlib import Path

import pytest

from groundup.runner.environment import main_root, set_environment, tracking_store


def test_main_root_is_the_checkout_around_an_experiment() -> None:
    checkout = Path("/home/me/groundup")
    assert main_root(checkout) == checkout
    assert main_root(checkout / ".dvc/tmp/exps/abc123") == checkout
    assert main_root(checkout / ".dvc/tmp/exps/abc123/deeper") == checkout
    assert main_root(checkout / ".dvc/tmp") == checkout / ".dvc/tmp"
    assert main_root(Path("/home/exps/tmp/.dvc")) == Path("/home/exps/tmp/.dvc")


def test_the_store_is_the_checkouts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    expected = ("sqlite:////home/me/groundup/mlflow/mlflow.db", "file:///home/me/groundup/mlflow/artifacts")
    assert tracking_store(Path("/home/me/groundup")) == expected
    assert tracking_store(Path("/home/me/groundup/.dvc/tmp/exps/abc123")) == expected


def test_a_server_decides_where_artifacts_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert tracking_store(Path("/home/me/groundup")) == ("http://tracking.example:5000", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_store(Path("/home/me/groundup"))[0].startswith("sqlite:")


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"DO_NOT_TRACK": "0"}
    monkeypatch.setattr("os.environ", environment)
    set_environment(offline=False)
    assert environment["DO_NOT_TRACK"] == "0"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "HF_HUB_OFFLINE" not in environment
    set_environment(offline=True)
    assert environment["HF_HUB_OFFLINE"] == "1"
