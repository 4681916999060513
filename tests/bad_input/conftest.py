"""The checkout of a case, how a stage is run in it, and what must hold afterwards."""

import importlib
import json
import logging
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from transformers import PreTrainedTokenizerFast

from groundup.runner import stage as runner
from tests.bad_input.checkout import EARLIER, build_checkout, snapshot
from tests.bad_input.spoil import Spoil
from tests.delivery import deliver_here

Body = runner.Body


@dataclass(frozen=True)
class Case:
    """A spoilt checkout and the expected message of the stage: "what is wrong | where | what to do"."""

    name: str
    stage: str
    spoil: Spoil
    says: str


@dataclass(frozen=True)
class Outcome:
    """The exit code and the message of a command."""

    code: int
    message: str


def case_id(case: Case) -> str:
    return case.name.replace(" ", "_")


@dataclass
class Checkout:
    root: Path
    store: str
    earlier_run: str

    def earlier(self, stage: str) -> tuple[dict[str, tuple[str, int]], dict[str, Any]]:
        """All files except the stage's new work dir, and MLflow's earlier run."""
        names = {path.name for path in (self.root / f".work/{stage}").glob("*")} - {EARLIER}
        new = tuple(f".work/{stage}/{name}" for name in names)
        return snapshot(self.root, new), MlflowClient(self.store).get_run(self.earlier_run).to_dictionary()

    def new_statuses(self, stage: str) -> list[str]:
        """The status of the stage's new runs in MLflow."""
        records = [path for path in (self.root / f".work/{stage}").glob("*/run.json") if path.parent.name != EARLIER]
        runs = [json.loads(path.read_text(encoding="utf-8"))["run_id"] for path in records]
        return [MlflowClient(self.store).get_run(run).info.status for run in runs]


@pytest.fixture(scope="session")
def session_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(URI of a store, id of the one run in it)."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("groundup", artifact_location=(folder / "artifacts").as_uri())
    run = client.create_run(experiment, run_name="earlier").info.run_id
    client.log_metric(run, "loss", 2.0, step=1)
    client.set_terminated(run)
    return uri, run


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    return build_checkout(tmp_path_factory.mktemp("template"), tiny_tokenizer)


@pytest.fixture
def checkout(
    template: Path, tmp_path: Path, session_store: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Checkout]:
    """A copy of the template; environment, signals and modules are restored afterwards."""
    root = shutil.copytree(template, tmp_path / "checkout", symlinks=True)
    before = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.syspath_prepend(str(root / "site"))
    monkeypatch.setenv("GROUNDUP_DEVICE", "cpu")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", session_store[0])
    yield Checkout(root, *session_store)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(before)


def run_here(checkout: Checkout, stage: str, monkeypatch: pytest.MonkeyPatch, body: Body | None = None) -> Outcome:
    """run_stage in this process, with the stage's own body or another; its log is what a user would read."""
    deliver_here(monkeypatch)
    monkeypatch.setattr(runner, "redact_streams", lambda: None)  # pytest has put its own in their place
    monkeypatch.chdir(checkout.root)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("groundup")
    logger.addHandler(handler)
    try:
        runner.run_stage(stage, body or importlib.import_module(f"stages.{stage}").main)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except Exception:
        lines.append(traceback.format_exc())
        code = 1
    finally:
        logger.removeHandler(handler)
    return Outcome(code, "\n".join(lines))


def unreached(stage: object) -> dict[str, Any]:
    """The body of a stage that must fail earlier: it stands for the stage's imports."""
    raise AssertionError("what a stage imports was reached")


def assert_clear(case: Case, outcome: Outcome) -> None:
    """Exit code 1, and a readable message with what, where and remedy."""
    assert "Traceback" not in outcome.message, outcome.message
    assert outcome.code == 1, outcome
    for words in case.says.split(" | "):
        assert words in outcome.message, f"{words!r} is not in:\n{outcome.message}"
    assert len(outcome.message) < 4000


def each_fails_clearly(cases: list[Case]) -> Callable[..., None]:
    """A test: the stage fails clearly, existing files stay, and MLflow has FAILED if a run had started."""

    @pytest.mark.parametrize("case", cases, ids=case_id)
    def test(case: Case, checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
        case.spoil(checkout.root)
        before = checkout.earlier(case.stage)
        assert_clear(case, run_here(checkout, case.stage, monkeypatch))
        assert checkout.earlier(case.stage) == before
        assert set(checkout.new_statuses(case.stage)) <= {"FAILED"}

    return test
