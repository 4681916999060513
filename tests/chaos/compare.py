"""Differences between a run that was killed and resumed, and one that was not."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from ruamel.yaml import YAML

from groundup.runner.figures import OF_THIS_MACHINE, read_record
from groundup.runner.pipeline import StageSpec
from tests.smoke_run import STAGES, SmokeRun

EXPERIMENT = "groundup"
MAX_SHOWN = 3  # entries of a history that differ


def differing_files(root: Path, whole: Path, before: Path, spec: StageSpec) -> list[str]:
    """Every file of artifacts/ and metrics/ against the uninterrupted run, and the stage's entry in dvc.lock."""
    wanted = published(before, ("artifacts", "metrics")) | published(whole, (*spec.outs, *spec.metrics, *spec.plots))
    found = published(root, ("artifacts", "metrics"))
    problems = [f"{path} is missing" for path in sorted(wanted.keys() - found.keys())]
    problems += [f"{path} was left behind" for path in sorted(found.keys() - wanted.keys())]
    for path in sorted(wanted.keys() & found.keys()):
        if found[path].read_bytes() != wanted[path].read_bytes():
            problems.append(f"{path} differs{first_difference(found[path], wanted[path])}")
    ours, theirs = (outs_in_lock(folder, spec) for folder in (root, whole))
    problems += [f"dvc.lock differs in {path}" for path in sorted(theirs) if ours.get(path) != theirs[path]]
    return problems


def published(root: Path, paths: tuple[str, ...]) -> dict[str, Path]:
    """Relative path -> file, hidden ones included."""
    files = (
        file for path in paths for file in ([root / path] if (root / path).is_file() else (root / path).rglob("*"))
    )
    return {file.relative_to(root).as_posix(): file for file in files if file.is_file()}


def first_difference(one: Path, two: Path) -> str:
    """The first differing line, or the number of bytes."""
    try:
        lines = zip(one.read_text("utf-8").splitlines(), two.read_text("utf-8").splitlines(), strict=False)
    except UnicodeDecodeError:
        return f": {one.stat().st_size} bytes, uninterrupted {two.stat().st_size}"
    pairs = (pair for pair in lines if pair[0] != pair[1])
    return next((f": {a.strip()[:80]!r}, uninterrupted {b.strip()[:80]!r}" for a, b in pairs), ": another length")


def outs_in_lock(root: Path, spec: StageSpec) -> dict[str, str]:
    """path -> md5"""
    path = root / "dvc.lock"
    stages = YAML(typ="safe").load(path.read_text("utf-8"))["stages"] if path.exists() else {}
    outs = stages.get(spec.name, {}).get("outs", [])
    return {out["path"]: out["md5"] for out in outs}


class Store:
    """The MLflow store of a checkout."""

    def __init__(self, root: Path) -> None:
        self.uri = f"sqlite:///{root / 'mlflow/mlflow.db'}"

    def runs(self, stage: str) -> list[Run]:
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return list(client.search_runs([experiment.experiment_id], f"tags.stage = '{stage}'"))

    def contents(self, run: Run) -> dict[str, Any]:
        """The parts that must be the same in every run of these inputs; of timed values, only the steps."""
        client = MlflowClient(self.uri)
        found: dict[str, Any] = {"status": run.info.status, "params": dict(run.data.params)}
        for key in run.data.metrics:
            points = sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, key))
            measured = key.endswith(OF_THIS_MACHINE)
            found[f"metric {key}"] = [(step, None if measured else value) for step, value in points]
        ids = ("model.", "mlflow.", "spool", "parent.")  # random in every run
        found["tags"] = {key: value for key, value in run.data.tags.items() if not key.startswith(ids)}
        found["datasets"] = sorted((d.dataset.name, d.dataset.digest) for d in run.inputs.dataset_inputs)
        found["input models"] = sorted(model.model_id for model in run.inputs.model_inputs)
        found["number of output models"] = len(run.outputs.model_outputs)
        found["artifacts"] = sorted(self._artifacts(client, run.info.run_id, None))
        return found

    def _artifacts(self, client: MlflowClient, run_id: str, folder: str | None) -> list[str]:
        found = []
        for file in client.list_artifacts(run_id, folder):
            found += self._artifacts(client, run_id, file.path) if file.is_dir else [file.path]
        return found


def histories(run: SmokeRun) -> dict[str, dict[str, Any]]:
    """MLflow's records of each stage after the uninterrupted run; from `root`, since the store holds paths."""
    run.restore(run.after)
    store = Store(run.root)
    return {stage: store.contents(store.runs(stage)[0]) for stage in STAGES}


def runs_now(root: Path, stage: str) -> dict[str, str]:
    """run id -> status, read from the file: an MLflow client would change a store that is being created."""
    path = root / "mlflow/mlflow.db"
    if not path.exists():
        return {}
    query = (
        "SELECT runs.run_uuid, runs.status FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
        "WHERE tags.key = 'stage' AND tags.value = ? AND runs.lifecycle_stage = 'active'"
    )
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return dict(connection.execute(query, (stage,))) if {"runs", "tags"} <= tables else {}


def differing_history(root: Path, spec: StageSpec, wanted: dict[str, Any], runs_before: Iterable[str]) -> list[str]:
    """The run of the stage in MLflow: exactly one, the same as before the resume, and complete."""
    store = Store(root)
    runs = store.runs(spec.name)
    if len(runs) != 1:
        return [f"{len(runs)} runs of {spec.name} in MLflow"]
    found = store.contents(runs[0])
    run_id = runs[0].info.run_id
    differing = [key for key in sorted(wanted.keys() | found.keys()) if found.get(key) != wanted.get(key)]
    problems = [f"MLflow's {key}: {shown(found.get(key), wanted.get(key))}" for key in differing[:MAX_SHOWN]]
    if len(differing) > MAX_SHOWN:
        problems.append(f"MLflow's {', '.join(differing[MAX_SHOWN:])} differ too")
    problems += [f"another MLflow run continued: {run_id} after {other}" for other in runs_before if other != run_id]
    record = read_record(root, spec.name)
    if record is None or record.fingerprint != runs[0].data.tags["fingerprint"]:
        problems.append(f"{spec.metrics[0]} does not have the fingerprint of the run {run_id}")
    return problems


def shown(found: Any, wanted: Any) -> str:
    """Both values; of lists, only the differences."""
    if isinstance(found, list) and isinstance(wanted, list):
        extra = [item for item in found if found.count(item) > wanted.count(item)]
        lacking = [item for item in wanted if wanted.count(item) > found.count(item)]
        return f"too many {extra[:4]}, too few {lacking[:4]}"
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
        return ", ".join(f"{key} {found.get(key)}, uninterrupted {wanted.get(key)}" for key in sorted(keys)[:4])
    return f"{found}, uninterrupted {wanted}"
