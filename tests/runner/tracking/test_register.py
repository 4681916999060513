"""A run of evaluate becomes one version of the registered model, and champion only if it passes the gates."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from groundup.runner.tracking import register as module
from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.registry import NAME, RegistryError, champion, promote, rollback, versions
from groundup.runner.tracking.spool import RUN
from groundup.runner.tracking.store import open_store
from tests.runner.tracking.events import evaluate


@pytest.fixture
def client(mlflow_store: str) -> MlflowClient:
    return open_store(mlflow_store)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy as a single file: MLflow's own takes seconds."""
    monkeypatch.setattr(
        module, "log_copy", lambda model_id, source: mlflow.MlflowClient().log_model_artifacts(model_id, str(source))
    )


def deliver(client: MlflowClient, work: Path) -> str:
    """Id of the run."""
    deliverer = Deliverer(work, client, None)
    assert deliverer.deliver()
    assert deliverer.run_id
    return deliverer.run_id


@pytest.mark.usefixtures("quick")
def test_a_failed_model_is_a_version_without_a_copy(client: MlflowClient, tmp_path: Path) -> None:
    run_id = deliver(client, evaluate(tmp_path / "work", passed=False))
    (version,) = versions(client).values()
    assert (version.run_id, champion(client)) == (run_id, None)
    assert version.tags["gates"] == "failed"
    assert version.tags["gates.failed"] == "harm: 0.5 > 0.25"
    assert version.tags["dvc.md5"] == "d41d.dir"
    assert "| harm | harmful_rate | 0.5 | 0.25 | failed | 0.5 > 0.25 |" in version.description
    model_id = version.source.removeprefix("models:/")
    artifacts = {file.path for file in client.list_logged_model_artifacts(model_id)}
    assert artifacts == {"MLmodel", "lineage.json", "report"}
    metrics = client.get_logged_model(model_id).metrics
    assert {metric.key: metric.value for metric in metrics} == {"win_rate": 0.75}
    with pytest.raises(RegistryError, match=r"version 1 has not passed the gates \(harm: 0.5 > 0.25\)"):
        promote(client, "1")


@pytest.mark.usefixtures("quick")
def test_more_gates_than_mlflow_has_room_for(client: MlflowClient, tmp_path: Path) -> None:
    work = evaluate(tmp_path / "work", passed=False)
    spool = work / "spool.jsonl"
    lines = [json.loads(line) for line in spool.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line |= {"gates": line["gates"] * 500} if "gates" in line else {}
    spool.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    deliver(client, work)
    version = versions(client)["1"]
    assert len(version.description) == len(version.tags["gates.failed"]) == 5000


@pytest.mark.usefixtures("quick")
def test_promotion_and_rollback(client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no champion yet: `dvc repro`"):
        rollback(client)
    with pytest.raises(RegistryError, match="no version 1: it has none yet"):
        promote(client, "1")
    for number, passed in enumerate((True, True, False, True), start=1):
        deliver(client, evaluate(tmp_path / str(number), passed))
        assert champion(client) == {1: "1", 2: "2", 3: "2", 4: "4"}[number]
    with pytest.raises(RegistryError, match="no version 7: it has 1, 2, 3, 4"):
        promote(client, "7")
    assert rollback(client) == ("4", "2")
    promote(client, "1")
    promote(client, "1")  # again, which changes nothing
    assert rollback(client) == ("1", "2")
    assert rollback(client) == ("2", "1")
    with pytest.raises(RegistryError, match="no version that was champion before version 1 still exists"):
        rollback(client)
    assert champion(client) == "1"


@pytest.mark.usefixtures("quick")
def test_rollback_knows_what_was_done_in_mlflows_pages(client: MlflowClient, tmp_path: Path) -> None:
    for number in range(1, 5):
        deliver(client, evaluate(tmp_path / str(number), passed=True))
    client.set_registered_model_alias(NAME, "champion", 2)
    promote(client, "4")
    client.delete_model_version(NAME, "2")
    assert rollback(client) == ("4", "1")
    client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(RegistryError, match="no champion yet"):
        rollback(client)


@pytest.mark.usefixtures("quick")
def test_what_waited_out_an_outage_does_not_replace_a_later_champion(client: MlflowClient, tmp_path: Path) -> None:
    late, later = evaluate(tmp_path / "late", passed=True), evaluate(tmp_path / "later", passed=True)
    spool = late / "spool.jsonl"
    lines = [json.loads(line) for line in spool.read_text(encoding="utf-8").splitlines()]
    spool.write_text("".join(json.dumps(line | {"time_ms": line["time_ms"] - 60_000}) + "\n" for line in lines))
    deliver(client, later)
    deliver(client, late)
    assert champion(client) == "1"
    assert versions(client)["2"].tags["promotion"].startswith("none: version 1, evaluated later, was champion")


class Killed(BaseException):
    """Like kill -9 of the deliverer: nothing after it happens."""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("owner", "name", "done"),
    [
        (MlflowClient, "create_registered_model", True),
        (mlflow, "create_external_model", True),
        (module, "log_copy", False),
        (module, "log_copy", True),
        (MlflowClient, "create_model_version", True),
        (MlflowClient, "log_outputs", True),
        (MlflowClient, "set_registered_model_tag", True),
        (MlflowClient, "set_registered_model_alias", True),
        (MlflowClient, "set_model_version_tag", True),
        (MlflowClient, "set_tag", True),
    ],
)
@pytest.mark.tried("MLflow", "the delivering process is killed while it registers or promotes a model")
def test_a_kill_on_the_way(
    monkeypatch: pytest.MonkeyPatch, client: MlflowClient, tmp_path: Path, owner: Any, name: str, done: bool
) -> None:
    if name != "create_registered_model":
        deliver(client, evaluate(tmp_path / "earlier", passed=True))
    work = evaluate(tmp_path / "work", passed=True)
    call: Callable[..., Any] = getattr(owner, name)

    def die(*args: Any, **kwargs: Any) -> None:
        if done:
            call(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as context:
        context.setattr(owner, name, die)
        with pytest.raises(Killed):
            Deliverer(work, client, None).deliver()
    run_id = deliver(client, work)
    number, version = next((n, v) for n, v in versions(client).items() if v.run_id == run_id)
    assert [v.run_id for v in versions(client).values()].count(run_id) == 1
    assert champion(client) == number
    run = client.get_run(run_id)
    model_id = version.source.removeprefix("models:/")
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    kept = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    assert [model.model_id for model in kept] == [model_id]
    if number == "2":
        assert rollback(client) == ("2", "1")
        (work / RUN).unlink()  # everything is sent again
        deliver(client, work)
        assert champion(client) == "1"  # nothing changes twice, even if a person has changed it since
        assert len(versions(client)) == 2
