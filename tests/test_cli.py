"""The groundup command where there is nothing to use yet: it fails with the remedy, not with a traceback."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from groundup.cli import app
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, empty. The command's environment variables do not outlive the test."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # nobody there, and nobody is asked
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def checkout(folder: Path) -> Path:
    """A fresh clone as far as the command looks."""
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    (folder / "stages").mkdir()
    return folder


def run(*arguments: str) -> tuple[Result, str]:
    """The result and its output on one line: the console wraps at its width."""
    result = CliRunner().invoke(app, list(arguments))
    return result, " ".join(result.output.split())


@pytest.mark.parametrize("command", ["ui", "lineage", "deliver", "chat"])
def test_outside_a_checkout(folder: Path, command: str) -> None:
    result, output = run(command)
    assert result.exit_code == 1
    assert output == "no groundup checkout here: change into the folder that holds dvc.yaml"


def test_a_checkout_is_found_from_a_folder_inside_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "docs/deep").mkdir(parents=True)
    monkeypatch.chdir(checkout / "docs/deep")
    result, output = run("deliver")
    assert result.exit_code == 0
    assert output == "nothing waits for delivery"


def test_lineage_before_the_first_run(checkout: Path) -> None:
    result, output = run("lineage")
    assert result.exit_code == 1
    assert output == "no stage has run yet: `dvc repro` runs them all"


def test_chat_without_a_model(checkout: Path) -> None:
    result, output = run("chat", "--model", "nothing")
    assert result.exit_code == 1
    assert "artifacts/nothing" in output.replace(" ", "")  # the path may be wrapped
    assert "raise one with `dvc repro`" in output
    assert "Traceback" not in output


def test_ui_of_a_server_names_its_address(checkout: Path) -> None:
    result, output = run("ui")
    assert result.exit_code == 1
    assert output == "MLFLOW_TRACKING_URI points to http://127.0.0.1:9: open that address in a browser"


def test_no_command_shows_the_commands() -> None:
    _, output = run()
    assert all(name in output for name in ("ui", "lineage", "deliver", "chat"))
