"""Two users with a checkout each, who share an MLflow server and a DVC remote, and a third one who may only read."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from groundup.runner.clock import present_runs
from groundup.runner.files import file_digests
from groundup.runner.tracking.check import TrackingError, check_store
from tests.conftest import GIT_IDENTITY, copy_working_tree
from tests.smoke_run import STAGES, dvc, environment
from tests.team import ADMIN, Team, team, why_not

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    if reason := why_not():
        pytest.skip(reason)
    with team(tmp_path_factory.mktemp("server")) as found:
        yield found


def command(root: Path, *arguments: str, said: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=root, env=environment(**variables), input=said, capture_output=True, text=True, timeout=300
    )


def groundup(root: Path, *arguments: str, said: str = "", **variables: str) -> str:
    ran = command(root, sys.executable, "-m", "groundup.app.cli.main", *arguments, said=said, **variables)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, env=os.environ | GIT_IDENTITY)


def test_two_checkouts_share_runs_and_bytes(shared: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob, carol = shared.add_user("alice"), shared.add_user("bob"), shared.add_user("carol", "--reader")
    first, second = copy_working_tree(tmp_path / "first"), tmp_path / "second"

    # carol is told before she trains that she may not write, even where no run is yet
    refused = command(first, sys.executable, "-m", "stages.prepare", **carol)
    assert refused.returncode == 1
    assert "answers 403: this user may read the experiment groundup there, but not write runs" in refused.stderr

    # alice trains, pretrain while the server is away, and pushes what DVC keeps
    dvc(first, "remote", "add", "--default", "store", "s3://team/dvc")
    dvc(first, "repro", "tokenizer", **alice)
    shared.server.kill()
    output = dvc(first, "repro", "pretrain", **alice)
    assert "training continues, its points wait in" in output
    shared.server.start()
    dvc(first, "repro", **alice)
    dvc(first, "push", **alice)
    git(first, "add", "--all")
    git(first, "commit", "--message", "trained")
    trained = {stage: run["mlflow_run_id"] for stage, run in present_runs(first).items()}

    # everything arrived, with reports on S3
    for name, value in bob.items():
        monkeypatch.setenv(name, value)
    client = MlflowClient(shared.server.uri)
    (experiment,) = [it for it in client.search_experiments() if it.name == "groundup"]
    runs = {run.data.tags.get("stage", "parent"): run for run in client.search_runs([experiment.experiment_id])}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert set(STAGES) < runs.keys()
    trained["pretrain"] = runs["pretrain"].info.run_id  # unknown to its checkout: it was delivered later
    assert {stage: runs[stage].info.run_id for stage in STAGES} == trained
    assert client.get_metric_history(trained["pretrain"], "loss")
    reports = [file.path for file in client.list_artifacts(trained["prepare"])]
    assert {"report.json", "report.md"} <= set(reports)

    # bob clones, pulls, runs nothing, and has the model and its history
    git(tmp_path, "clone", str(first), str(second))
    dvc(second, "pull", **bob)
    assert "up to date" in dvc(second, "repro", **bob)
    assert file_digests(second / "artifacts") == file_digests(first / "artifacts")
    assert groundup(second, "chat", "--max-new-tokens", "4", said="Hello\n", **bob)
    lineage = groundup(second, "lineage", **bob)
    assert all(run_id[:8] in lineage for run_id in trained.values())

    # what bob changes goes on from alice's runs
    params = second / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(re.sub(r"(?m)^(    kl_coefficient:) 0\.1\b", r"\1 0.06", text), encoding="utf-8")
    dvc(second, "repro", "align", **bob)
    made = client.get_run(present_runs(second)["align"]["mlflow_run_id"])
    assert made.info.run_id != trained["align"]
    assert [made.data.tags[f"upstream.{stage}"] for stage in ("sft", "reward")] == [trained["sft"], trained["reward"]]

    # bob's deliverer may remove what it left when it was killed, but no experiment
    stray = client.create_run(experiment.experiment_id).info.run_id
    model = client.create_logged_model(experiment.experiment_id, name="stray", source_run_id=stray).model_id
    client.delete_logged_model(model)
    client.delete_run(stray)
    with pytest.raises(MlflowException, match="Permission denied"):
        client.delete_experiment(experiment.experiment_id)

    # carol may look
    assert trained["sft"][:8] in groundup(second, "lineage", **carol)


def test_a_reader_becomes_a_writer_and_a_user_leaves(
    shared: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in shared.add_user("dave", "--reader").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrackingError, match="may read the experiment groundup there, but not write runs"):
        check_store(tmp_path, to_write=True)
    shared.add_user("dave")
    assert check_store(tmp_path, to_write=True) is None
    remove = f"import mlflow.server as s; s.get_app_client('basic-auth', tracking_uri='{shared.server.uri}')"
    subprocess.run(
        [sys.executable, "-c", f"{remove}.delete_user('dave')"], env=os.environ | shared.user(*ADMIN), check=True
    )
    with pytest.raises(TrackingError, match="answers 401"):
        check_store(tmp_path, to_write=True)


def test_a_stranger_is_told_so(shared: Team, working_copy: Path) -> None:
    refused = command(working_copy, sys.executable, "-m", "stages.prepare", **shared.user("mallory", "guess"))
    assert refused.returncode == 1
    assert "answers 401: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in refused.stderr
