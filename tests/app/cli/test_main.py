"""The groundup command with nothing to use yet: it fails with a remedy, not with a traceback."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner, Result

from groundup.app.cli.main import app
from groundup.runner.base import Base, write_lock
from groundup.runner.figures import Record, write_record
from groundup.runner.files import write_json
from groundup.runner.tracking.spool import claimed
from tests.conftest import ROOT
from tests.runner.tracking.events import write_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder. The command's environment variables do not outlive the test."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # an address without a server
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def checkout(folder: Path) -> Path:
    """A fresh clone, as far as the command can see."""
    for name in ("dvc.yaml", "base.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "stages").mkdir()
    return folder


def run(*arguments: str) -> tuple[Result, str]:
    """The result and its output on one line: the console wraps at its width."""
    result = CliRunner().invoke(app, list(arguments))
    return result, " ".join(result.output.split())


@pytest.mark.parametrize(
    "command", ["ui", "lineage", "deliver", "clean", "chat", "serve", "report", "feedback import"]
)
def test_outside_a_checkout(folder: Path, command: str) -> None:
    result, output = run(*command.split())
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


def test_lineage_names_the_base_and_its_licence(checkout: Path) -> None:
    write_record(checkout, "pretrain", Record("a" * 16, {"val_bits_per_byte": 1.5}))
    values = {"source": "own", "revision": "1", "licence_accepted": False, "files": {}}
    write_lock(checkout, Base(name="own", licence="Apache-2.0", **values))
    result, output = run("lineage")
    assert result.exit_code == 0
    assert all(part in output for part in ("pretrain", "base own", "(Apache-2.0)"))


def test_lineage_shows_a_stage_that_it_knows_nothing_of(checkout: Path) -> None:
    (checkout / "dvc.yaml").write_text("stages: {distill: {cmd: python -m stages.distill, outs: [artifacts/small]}}")
    write_json(checkout / "metrics/distill.json", {"fingerprint": ["abcdef0123"], "loss": 1.0})
    result, output = run("lineage")
    assert result.exit_code == 0, output
    assert "distill" in output
    assert "abcdef01" in output


def test_chat_without_a_model(checkout: Path) -> None:
    shutil.copyfile(ROOT / "params.yaml", checkout / "params.yaml")
    result, output = run("chat", "--model", "nothing")
    assert result.exit_code == 1
    assert output == "unknown model 'nothing': choose base, sft, aligned, champion or a merged model in models/"
    result, output = run("chat")
    assert result.exit_code == 1
    assert "artifacts/aligned" in output.replace(" ", "")  # the path may be wrapped
    assert "train one with `dvc repro`" in output
    assert "Traceback" not in output


def test_ui_of_a_server_names_its_address(checkout: Path) -> None:
    result, output = run("ui")
    assert result.exit_code == 1
    assert output == "MLFLOW_TRACKING_URI points to http://127.0.0.1:9: open that address in a browser"


def test_ui_hides_a_password(checkout: Path) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = "https://me:hunter2@tracking.example"
    _, output = run("ui")
    assert output == "MLFLOW_TRACKING_URI points to https://***@tracking.example: open that address in a browser"


def test_ui_binds_to_this_machine_and_names_its_hosts(
    checkout: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: started.append(arguments))
    os.environ["MLFLOW_TRACKING_URI"] = mlflow_store
    result, output = run("ui", "--port", "5001")
    assert result.exit_code == 0
    assert "http://127.0.0.1:5001/#/experiments/1/runs?workflowType=machine_learning (Ctrl-C" in output
    (arguments,) = started
    assert arguments[1:6] == ["-m", "mlflow", "server", "--host", "127.0.0.1"]
    assert arguments[6:] == ["--port", "5001", "--allowed-hosts", "127.0.0.1:5001,localhost:5001", "--workers", "1"]
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == mlflow_store


@pytest.mark.parametrize("command", ["ui", "lineage", "deliver"])
def test_a_wrong_store_is_told(checkout: Path, command: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = "ftp://host"
    write_json(checkout / "metrics/prepare.json", {"fingerprint": ["abc"]})
    write_waiting_run(checkout)
    result, output = run(command)
    assert result.exit_code == 1
    assert "MLFLOW_TRACKING_URI=ftp://host has the scheme ftp, which MLflow does not know" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("command", ["ui", "lineage", "deliver"])
def test_a_store_that_fails_is_told(
    checkout: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def fail(uri: str) -> None:
        raise OperationalError("SELECT 1", {}, Exception("database is locked"))

    monkeypatch.setattr("groundup.runner.tracking.store.open_store", fail)
    os.environ["MLFLOW_TRACKING_URI"] = mlflow_store
    write_json(checkout / "metrics/prepare.json", {"fingerprint": ["abc"]})
    write_waiting_run(checkout)
    result, output = run(command)
    assert result.exit_code == 1
    assert output == "MLflow: (builtins.Exception) database is locked"


def test_what_the_user_has_set_stays(checkout: Path, mlflow_store: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = mlflow_store
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "7"
    write_waiting_run(checkout)
    assert run("deliver")[0].exit_code == 0
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def write_waiting_run(checkout: Path) -> Path:
    work = checkout / ".work/sft/abc"
    write_run(work, last=3, finish=False)
    return work


def test_deliver_sends_what_waits(checkout: Path, mlflow_store: str) -> None:
    work = write_waiting_run(checkout)
    result, output = run("deliver")
    assert result.exit_code == 1
    assert "1 runs wait, and MLflow cannot take them now: [Errno 111] Connection refused" in output
    os.environ["MLFLOW_TRACKING_URI"] = mlflow_store
    with claimed(work):
        assert run("deliver")[1] == "sft/abc is being delivered by its stage".replace("sft", ".work/sft")
    result, output = run("deliver")
    assert (result.exit_code, output) == (0, "delivered .work/sft/abc")
    assert run("deliver")[1] == "nothing waits for delivery"


def test_clean_says_what_it_frees(checkout: Path) -> None:
    shutil.copyfile(ROOT / "params.yaml", checkout / "params.yaml")
    work = checkout / ".work/gone/abc"
    work.mkdir(parents=True)
    (work / "checkpoint").write_bytes(bytes(2_500_000))
    told = ".work/gone/abc (2.5 MB): dvc.yaml has no stage gone 2.5 MB"
    assert run("clean", "--dry-run")[1] == f"would remove {told} would be freed"
    assert run("clean")[1] == f"removed {told} freed"
    assert run("clean")[1] == "0.0 MB freed"


def test_no_command_shows_the_commands() -> None:
    _, output = run()
    assert all(name in output for name in ("ui", "lineage", "deliver", "clean", "chat", "serve"))
