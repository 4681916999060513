"""Register a run of evaluate as a version of the model. Safe to repeat: a kill half-way is harmless."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Run
from mlflow.entities.model_registry import ModelVersion

from groundup.runner.tracking import registry
from groundup.runner.tracking.copy import log_copy
from groundup.runner.tracking.spool import Event
from groundup.runner.tracking.store import find_run, make_model

EVALUATED = "evaluated_time_ms"
PROMOTION = "promotion"  # tag of a version: whether it became champion when it was registered; set last
MAX_TEXT = 5000  # characters of a tag or description, MLflow's limit
LICENCE = "model/README.md, the model card, names the data that the model comes from, with licences and limits.\n"


def register(client: MlflowClient, run: Run, event: Event, work: Path) -> str:
    """Create the run's version if missing, champion if it passed the gates; returns the id of its LoggedModel."""
    registry.ensure_registered_model(client)
    made = client.search_model_versions(f"name = '{registry.NAME}' and run_id = '{run.info.run_id}'")
    version = made[0] if made else _make(client, run, event, work)
    model_id = registry.model_id(version)
    if model_id not in {output.model_id for output in run.outputs.model_outputs}:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model_id, 0)])
    if PROMOTION not in version.tags:
        client.set_model_version_tag(registry.NAME, version.version, PROMOTION, _promote(client, version))
    return model_id


def _promote(client: MlflowClient, version: ModelVersion) -> str:
    """The PROMOTION tag. A version that arrives after an outage does not replace a champion evaluated after it."""
    if version.tags[registry.GATES] != registry.PASSED:
        return "none: it failed the gates"
    present = registry.champion(client)
    if present is not None:
        tags = client.get_model_version(registry.NAME, present).tags
        if int(tags.get(EVALUATED, 0)) > int(version.tags[EVALUATED]):
            return f"none: version {present}, evaluated later, was {registry.CHAMPION} when this one arrived"
    registry.set_champion(client, str(version.version))
    return registry.CHAMPION


def _make(client: MlflowClient, run: Run, event: Event, work: Path) -> ModelVersion:
    """Create the model first and the version last, so that every version in the registry is complete."""
    experiment, run_id = run.info.experiment_id, run.info.run_id
    left = f"source_run_id = '{run_id}' AND name = '{registry.NAME}'"
    for stray in client.search_logged_models([experiment], left):  # by a deliverer that was killed half-way
        client.delete_logged_model(stray.model_id)
    model, runs = event["model"], ancestors(client, run)
    model_id = make_model(run, registry.NAME, model)
    with TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        if event["copy"]:
            log_copy(model_id, work / event["copy"])
            _add_rest(work / event["copy"], folder)
        for file in event["report"]:
            (folder / "report").mkdir(exist_ok=True)
            shutil.copy(work / file, folder / "report")
        (folder / "lineage.json").write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
        client.log_model_artifacts(model_id, str(folder))
    failed = [gate for gate in event["gates"] if not gate["passed"]]
    said = "; ".join(f"{gate['name']}: {gate['reason']}" for gate in failed) or "evaluate gave no verdict"
    return client.create_model_version(
        registry.NAME,
        source=f"models:/{model_id}",
        run_id=run_id,
        model_id=model_id,  # a server requires it
        tags={
            registry.GATES: registry.PASSED if event["copy"] else registry.FAILED,
            **({} if event["copy"] else {registry.FAILED_GATES: said[:MAX_TEXT]}),
            EVALUATED: str(event["time_ms"]),
            "dvc.path": model["path"],
            "dvc.md5": model["md5"],
            "fingerprint": run.data.tags["fingerprint"],
            "git.commit": run.data.tags["git.commit"],
            **{f"upstream.{ancestor['stage']}": ancestor["run_id"] for ancestor in runs[:-1]},
        },
        description=describe(event["gates"], runs),
    )


def _add_rest(source: Path, folder: Path) -> None:
    """Complete `model/`: MLflow puts the weights there and the tokenizer elsewhere."""
    shutil.copytree(source, folder / "model", ignore=shutil.ignore_patterns("model*.safetensors"))
    (folder / "LICENSE.txt").write_text(LICENCE, encoding="utf-8")  # MLflow's own points to a hub


def ancestors(client: MlflowClient, run: Run) -> list[dict[str, Any]]:
    """The run and all runs upstream of it, each with params and inputs, oldest first."""
    found: dict[str, Run] = {}
    queue = [run]
    while queue:
        present = queue.pop()
        if present.info.run_id not in found:
            found[present.info.run_id] = present
            ids = [value for key, value in present.data.tags.items() if key.startswith("upstream.")]
            queue += [upstream for run_id in ids if (upstream := find_run(client, run_id))]
    return [
        {
            "stage": run.data.tags["stage"],
            "run_id": run.info.run_id,
            "fingerprint": run.data.tags["fingerprint"],
            "git_commit": run.data.tags["git.commit"],
            "git_dirty": run.data.tags["git.dirty"],
            "device": run.data.tags["device"],
            "upstream": _tags(run, "upstream."),
            "inputs": _tags(run, "input."),
            "versions": _tags(run, "version."),
            "params": run.data.params,
        }
        for run in sorted(found.values(), key=lambda run: run.info.start_time)
    ]


def _tags(run: Run, prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in run.data.tags.items() if key.startswith(prefix)}


def describe(gates: list[dict[str, Any]], runs: list[dict[str, Any]]) -> str:
    """Markdown for MLflow's page of the version."""
    judged = [
        f"| {gate['name']} | {gate['metric']} | {_short(gate['value'])} | {_short(gate['limit'])} | "
        f"{'passed' if gate['passed'] else 'failed'} | {gate['reason']} |"
        for gate in gates
    ]
    made = [f"| {run['stage']} | {run['run_id']} | {run['git_commit'][:12]} |" for run in runs]
    text = "\n".join(
        [
            "| gate | metric | value | limit | verdict | reason |",
            "|---|---|---|---|---|---|",
            *judged,
            "",
            "| stage | run | commit |",
            "|---|---|---|",
            *made,
            "",
            "Report and lineage: among the artifacts of the model that this version was made from.",
        ]
    )
    return text[:MAX_TEXT]


def _short(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
