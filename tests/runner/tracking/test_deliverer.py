"""Every event counts once, whenever the deliverer is killed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from groundup.runner.tracking import deliverer as module
from groundup.runner.tracking import store
from groundup.runner.tracking.deliver import deliver_left
from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.spool import EVENTS, RUN, Spool, claimed, is_delivered, read_delivered, waiting
from groundup.runner.tracking.store import find_runs, open_store
from tests.runner.tracking.events import assert_whole, publish, start, write_run


@pytest.fixture
def client(mlflow_store: str) -> MlflowClient:
    return open_store(mlflow_store)


class Killed(BaseException):
    """Like kill -9 of the deliverer: nothing after it happens."""


CALLS = ("create_run", "log_batch", "log_inputs", "log_outputs", "set_tag", "log_artifact", "set_terminated")


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str, number: int, done: bool) -> None:
    """Die in the `number`th call of the client's method `name`, after or before it took effect."""
    count = 0
    wrapped: Callable[..., Any] = getattr(MlflowClient, name)

    def dying(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count != number:
            return wrapped(self, *args, **kwargs)
        if done:
            wrapped(self, *args, **kwargs)
        raise Killed

    monkeypatch.setattr(MlflowClient, name, dying)


@pytest.mark.parametrize(
    ("name", "number", "done"),
    [
        ("create_run", 1, True),
        ("log_batch", 1, True),  # params, first half
        ("log_batch", 2, False),
        ("log_batch", 3, True),  # tags
        ("log_inputs", 1, True),
        ("log_batch", 4, True),  # points
        ("log_batch", 5, True),  # points
        ("log_outputs", 1, False),
        ("log_outputs", 1, True),
        ("set_tag", 1, True),
        ("log_batch", 9, True),  # final figures
        ("log_artifact", 1, True),
        ("set_terminated", 1, True),
    ],
)
@pytest.mark.tried("MLflow", "the delivering process is killed before or after a request, before it noted it")
def test_a_kill_between_sending_and_noting(
    monkeypatch: pytest.MonkeyPatch, client: MlflowClient, tmp_path: Path, name: str, number: int, done: bool
) -> None:
    work = tmp_path / "work"
    write_run(work)
    with monkeypatch.context() as context:
        context.setattr(module, "MAX_BATCH", 12)
        kill_at(context, name, number, done)
        with pytest.raises(Killed):
            Deliverer(work, client, None).deliver()
    assert Deliverer(work, client, None).deliver()
    assert is_delivered(work)
    assert_whole(client)
    experiment = client.get_experiment_by_name("groundup")
    assert not client.search_runs([experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY)


@pytest.mark.tried("MLflow", "the delivering process is killed before or after a request, before it noted it")
def test_a_kill_while_the_model_is_made(monkeypatch: pytest.MonkeyPatch, client: MlflowClient, tmp_path: Path) -> None:
    work = tmp_path / "work"
    write_run(work)
    make = mlflow.create_external_model

    def die(**arguments: Any) -> None:
        make(**arguments)
        raise Killed

    with monkeypatch.context() as context:
        context.setattr(mlflow, "create_external_model", die)
        with pytest.raises(Killed):
            Deliverer(work, client, None).deliver()
    Deliverer(work, client, None).deliver()
    assert_whole(client)


@pytest.mark.tried("MLflow", "its notes are lost, and it sends everything again")
def test_everything_sent_again_changes_nothing(client: MlflowClient, tmp_path: Path) -> None:
    work = tmp_path / "work"
    write_run(work)
    Deliverer(work, client, None).deliver()
    for _ in range(2):
        (work / RUN).unlink()
        Deliverer(work, client, None).deliver()
    assert_whole(client)


@pytest.mark.tried("MLflow", "the stage is killed and resumed, then publishes again")
def test_a_stage_that_was_killed_and_resumed(client: MlflowClient, tmp_path: Path) -> None:
    """Its second start logs again from its last checkpoint, step 11; its third only publishes again."""
    work = tmp_path / "work"
    write_run(work, last=17, finish=False)
    Deliverer(work, client, None).deliver()
    write_run(work, first=11)
    Deliverer(work, client, None).deliver()
    assert_whole(client)
    spool = Spool(work)
    spool.write("start", **start("sft", {}, []))
    publish(work, spool, 31)
    Deliverer(work, client, None).deliver()
    assert_whole(client)


@pytest.mark.tried("MLflow", "the server creates a run after its client gave up waiting")
def test_a_run_that_came_into_being_twice(client: MlflowClient, tmp_path: Path) -> None:
    """A hanging server may execute a create_run although nobody waits for its answer."""
    work = tmp_path / "work"
    write_run(work, finish=False)
    deliverer = Deliverer(work, client, None)
    deliverer.deliver()
    (run,) = find_runs(client, {"spool": deliverer.spool})
    client.create_run(run.info.experiment_id, tags={"spool": deliverer.spool, "fingerprint": "print-sft"})
    write_run(work, first=31, last=30)
    deliverer.deliver()
    assert_whole(client)


@pytest.mark.tried("MLflow", "experiment or run deleted: nothing is recreated, the message names the remedy")
def test_a_deleted_experiment_and_a_deleted_run_name_the_remedy(client: MlflowClient, tmp_path: Path) -> None:
    work = tmp_path / "work"
    experiment_id = client.get_experiment_by_name("groundup").experiment_id
    client.delete_experiment(experiment_id)
    write_run(work, last=20, finish=False)
    with pytest.raises(MlflowException, match=f"mlflow experiments restore --experiment-id {experiment_id}"):
        Deliverer(work, client, None).deliver()
    client.restore_experiment(experiment_id)
    Deliverer(work, client, None).deliver()
    run_id = read_delivered(work).run_id
    write_run(work, first=21)
    client.delete_run(run_id)
    with pytest.raises(MlflowException, match=f"mlflow runs restore --run-id {run_id}"):
        Deliverer(work, client, None)
    client.restore_run(run_id)
    client.delete_experiment(experiment_id)
    with pytest.raises(MlflowException, match="mlflow experiments restore"):
        Deliverer(work, client, None)
    client.restore_experiment(experiment_id)
    Deliverer(work, client, None).deliver()
    assert_whole(client)


@pytest.mark.tried("MLflow", "another server or a new database: the run is sent there whole")
def test_a_run_that_the_store_does_not_have_is_sent_whole(
    client: MlflowClient, migrated_store: Path, tmp_path: Path
) -> None:
    """Started on one server, resumed on another."""
    work = tmp_path / "work"
    write_run(work, last=20, finish=False)
    Deliverer(work, client, None).deliver()
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(migrated_store, other / "mlflow.db")
    client = open_store(f"sqlite:///{other}/mlflow.db")
    write_run(work, first=21)
    Deliverer(work, client, (other / "artifacts").as_uri()).deliver()
    assert_whole(client)


@pytest.mark.tried("MLflow", "notes about another run's spool")
def test_what_is_noted_about_another_spool_counts_for_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "old", stage="sft")
    write_run(tmp_path / "new", stage="reward")
    module.note_delivered(tmp_path / "old", module.Delivered("some-run", 7))
    (tmp_path / "old" / RUN).rename(tmp_path / "new" / RUN)
    assert read_delivered(tmp_path / "new") == module.Delivered(None, 0)


def test_earlier_stages_are_delivered_first_and_then_found(client: MlflowClient, tmp_path: Path) -> None:
    """There was no server when sft ran; the run that reads its outputs finds it."""
    folder = tmp_path / ".work"
    write_run(folder / "sft/1", stage="sft")
    (folder / "broken/1").mkdir(parents=True)
    (folder / f"broken/1/{EVENTS}").write_text('{"kind": "start", "time_ms": 1}\n')
    (folder / "torn/1").mkdir(parents=True)
    (folder / f"torn/1/{EVENTS}").write_bytes(b'{"kind": "sta\x00\xff\n')
    write_run(folder / "held/1", stage="held")
    own = folder / "align/1"
    own.mkdir(parents=True)
    spool = Spool(own)
    upstream = {"sft": "print-sft", "reward": "nobody"}
    spool.write("start", **start("align", upstream, [["artifacts/sft", "sft"]]))
    works, damaged = waiting(folder)
    assert [work.parent.name for work in works] == ["broken", "sft", "held", "align"]
    assert [str(error).partition(" is ")[0] for error in damaged] == [f"{folder}/torn/1/{EVENTS}, line 1"]
    with claimed(folder / "held/1"):
        deliver_left(folder, own, client, None, os.getppid())
    assert [work.parent.name for work in waiting(folder)[0]] == ["broken", "held", "align"]
    deliverer = Deliverer(own, client, None)
    deliverer.deliver()
    sft = read_delivered(folder / "sft/1").run_id
    run = client.get_run(deliverer.run_id)
    assert run.data.tags["upstream.sft"] == sft
    assert run.data.tags["upstream.reward"] == "unknown"
    assert [m.model_id for m in run.inputs.model_inputs] == [client.get_run(sft).data.tags["model.artifacts/sft"]]


def test_no_name_of_the_user_and_no_path_of_the_machine(client: MlflowClient, tmp_path: Path) -> None:
    write_run(tmp_path / "work")
    deliverer = Deliverer(tmp_path / "work", client, None)
    deliverer.deliver()
    run = client.get_run(deliverer.run_id)
    model = client.get_logged_model(run.data.tags["model.artifacts/sft"])
    assert model.tags["mlflow.source.name"] == "stages/sft.py"
    assert model.tags["mlflow.user"] == "unknown"
    root = str(Path(module.__file__).parents[4])
    assert not [value for value in (run.data.tags | model.tags).values() if root in value or str(tmp_path) in value]


class HalfMade:
    """MLflow is killed while it creates its tables."""

    def __init__(self, uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_text("half")

    def search_experiments(self, max_results: int) -> None:
        raise Killed


@pytest.mark.tried("MLflow", "killed while MLflow creates its database")
def test_a_store_is_there_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with monkeypatch.context() as context:
        context.setattr(store, "MlflowClient", HalfMade)
        with pytest.raises(Killed):
            open_store(uri)
    assert not (tmp_path / "mlflow.db").exists()
    assert open_store(uri).search_experiments()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
