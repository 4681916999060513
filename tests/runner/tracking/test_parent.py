"""The parent run of a `dvc repro`: its row in MLflow's table is complete, wherever the delivery is interrupted."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from groundup.runner.tracking.deliverer import Deliverer
from groundup.runner.tracking.spool import RUN, Spool
from groundup.runner.tracking.store import find_runs, open_store
from tests.runner.tracking.events import start

PARENT: dict[str, Any] = {"key": "0123", "name": "repro-c0ffee", "present": {}}


@pytest.fixture
def client(mlflow_store: str) -> MlflowClient:
    return open_store(mlflow_store)


def begin(work: Path, stage: str, parent: dict[str, Any] | None = PARENT) -> Spool:
    work.mkdir(parents=True, exist_ok=True)
    spool = Spool(work)
    event = start(stage, {}, []) | {"parent": parent}
    spool.write("start", **event | {"tags": event["tags"] | {"dvc.experiment": "none"}})
    return spool


def end(spool: Spool, shown: dict[str, float], status: str = "FINISHED") -> None:
    if status == "FINISHED":
        spool.write("metrics", values={}, step=1, shown=shown)
    spool.write("finish", status=status)


def deliver(client: MlflowClient, work: Path) -> Run:
    deliverer = Deliverer(work, client, None)
    deliverer.deliver()
    return client.get_run(deliverer.run_id)


def parents(client: MlflowClient, key: str = "0123") -> list[Run]:
    return find_runs(client, {"parent.key": key})


def test_one_parent_holds_the_figures_of_all_stages(client: MlflowClient, tmp_path: Path) -> None:
    """`dvc repro` skips sft: its figures of that time are marked as reused."""
    present = {"sft": {"sft/val_loss": 4.5}}
    end(begin(tmp_path / "reward", "reward", PARENT | {"present": present}), {"reward/val_accuracy": 0.75})
    reward = deliver(client, tmp_path / "reward")
    present["reward"] = {"reward/val_accuracy": 0.0}
    end(begin(tmp_path / "align", "align", PARENT | {"present": present}), {"align/val_kl": 2.0})
    align = deliver(client, tmp_path / "align")
    (parent,) = parents(client)
    assert {run.data.tags["mlflow.parentRunId"] for run in (reward, align)} == {parent.info.run_id}
    assert parent.info.run_name == "repro-c0ffee"
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"sft/val_loss": 4.5, "reward/val_accuracy": 0.75, "align/val_kl": 2.0}
    tags = {key: value for key, value in parent.data.tags.items() if key.startswith(("stage.", "git."))}
    assert tags == {
        "stage.sft": "reused",
        "stage.reward": "FINISHED",
        "stage.align": "FINISHED",
        "git.commit": "c0ffee",
        "git.dirty": "false",
    }


def test_a_stage_that_failed_fails_its_parent_until_the_next_one_starts(client: MlflowClient, tmp_path: Path) -> None:
    end(begin(tmp_path / "sft", "sft"), {}, status="FAILED")
    deliver(client, tmp_path / "sft")
    (parent,) = parents(client)
    assert (parent.info.status, parent.data.tags["stage.sft"]) == ("FAILED", "FAILED")
    begin(tmp_path / "reward", "reward")
    deliver(client, tmp_path / "reward")
    (parent,) = parents(client)
    assert parent.info.status == "RUNNING"


def test_a_resumed_run_keeps_its_first_parent_and_names_the_second(client: MlflowClient, tmp_path: Path) -> None:
    end(begin(tmp_path / "sft", "sft"), {}, status="KILLED")
    deliver(client, tmp_path / "sft")
    end(begin(tmp_path / "sft", "sft", PARENT | {"key": "4567"}), {"sft/val_loss": 4.5})
    run = deliver(client, tmp_path / "sft")
    (first,), (second,) = parents(client), parents(client, "4567")
    assert run.data.tags["mlflow.parentRunId"] == first.info.run_id
    assert run.data.tags["parent.resumed"] == second.info.run_id
    assert (first.info.status, first.data.metrics) == ("KILLED", {})
    assert (second.info.status, second.data.metrics) == ("FINISHED", {"sft/val_loss": 4.5})


def test_what_is_delivered_twice_is_there_once(client: MlflowClient, tmp_path: Path) -> None:
    """As after a kill of the deliverer before it noted what it had sent."""
    parent_with_prepare = PARENT | {"present": {"prepare": {"prepare/num_chats_train": 7.0}}}
    end(begin(tmp_path / "sft", "sft", parent_with_prepare), {"sft/val_loss": 4.5})
    deliver(client, tmp_path / "sft")
    (tmp_path / "sft" / RUN).unlink()
    deliver(client, tmp_path / "sft")
    (parent,) = parents(client)
    assert parent.data.metrics == {"sft/val_loss": 4.5, "prepare/num_chats_train": 7.0}
    assert len(client.get_metric_history(parent.info.run_id, "sft/val_loss")) == 1
    assert parent.data.tags["stage.prepare"] == "reused"


def test_a_stage_started_by_hand_has_no_parent(client: MlflowClient, tmp_path: Path) -> None:
    end(begin(tmp_path / "sft", "sft", None), {"sft/val_loss": 4.5})
    run = deliver(client, tmp_path / "sft")
    assert "mlflow.parentRunId" not in run.data.tags
    (experiment,) = [e for e in client.search_experiments() if e.name == "groundup"]
    assert len(client.search_runs([experiment.experiment_id])) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "custom_model_development"),
        ("genai_development_inferred", "custom_model_development"),
        ("genai_development", "genai_development"),  # a person chose it
    ],
)
def test_the_experiment_opens_among_runs(client: MlflowClient, tmp_path: Path, before: str | None, after: str) -> None:
    (experiment,) = [e for e in client.search_experiments() if e.name == "groundup"]
    if before:
        client.set_experiment_tag(experiment.experiment_id, "mlflow.experimentKind", before)
    begin(tmp_path / "sft", "sft")
    deliver(client, tmp_path / "sft")
    assert client.get_experiment(experiment.experiment_id).tags["mlflow.experimentKind"] == after
