"""Applies the events of one spool to one MLflow run. Each can be applied twice: a kill before noting is harmless."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException

from groundup.runner.figures import UNKNOWN
from groundup.runner.tracking import parent
from groundup.runner.tracking.check import EXPERIMENT, deleted_experiment
from groundup.runner.tracking.register import register
from groundup.runner.tracking.registry import NAME
from groundup.runner.tracking.spool import (
    EVENTS,
    Delivered,
    Event,
    note_delivered,
    offset_of,
    read_delivered,
    read_from,
    spool_id,
)
from groundup.runner.tracking.store import find_run, find_runs, make_model, resolve_run

MAX_BATCH = 1000  # metrics in one log_batch, MLflow's limit
MAX_PARAM_BATCH = 100
# MLflow 3.17 looks up which metrics a model already has by 100 names at a time, and refuses to receive more twice.
MAX_MODEL_BATCH = 100
KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"  # the UI then opens runs, not traces
MODEL_TAG = "model."  # model.<path>: id of the LoggedModel that stands for a published model directory


class Deliverer:
    """The progress of one spool: events delivered, and the last point of each metric."""

    def __init__(self, work: Path, client: MlflowClient, artifact_location: str | None) -> None:
        self.work = work
        self.client = client
        self.artifact_location = artifact_location
        self.spool = spool_id(work)
        delivered = read_delivered(work)
        self.run_id: str | None = None
        self.num_events = 0
        self.last: dict[str, Metric] = {}
        if delivered.run_id and (run := find_run(client, delivered.run_id)):
            self._go_on(run)
            self.num_events = delivered.num_events
        # else: never sent, or this store does not have the run (another server, a new database): send everything
        self.offset = offset_of(work / EVENTS, self.num_events)

    def _go_on(self, run: Run) -> None:
        """Read the last point of each metric: what the store already has is not sent twice."""
        experiment = self.client.get_experiment(run.info.experiment_id)
        if experiment.lifecycle_stage == "deleted":
            raise MlflowException(deleted_experiment(mlflow.get_tracking_uri(), experiment.experiment_id))
        if run.info.lifecycle_stage == "deleted":
            raise MlflowException(
                f"its run {run.info.run_id} was deleted: `mlflow runs restore --run-id {run.info.run_id}` brings it "
                "back, `groundup clean --undelivered` drops what waits for it"
            )
        self.run_id = run.info.run_id
        for key in run.data.metrics:
            history = self.client.get_metric_history(self.run_id, key)
            self.last[key] = max(history, key=lambda point: point.step)

    def deliver(self) -> bool:
        """Send what is new; True once the run has ended."""
        events, self.offset = read_from(self.work / EVENTS, self.offset, self.num_events)
        points: list[Event] = []
        ended = False
        for event in events:
            if event["kind"] == "point":
                points.append(event)
                continue
            self._points(points)
            ended = self._apply(event)
            self._note(len(points) + 1)
            points = []
        if points:
            self._points(points)
            self._note(len(points))
        return ended

    def _note(self, num_events: int) -> None:
        self.num_events += num_events
        note_delivered(self.work, Delivered(self.run_id, self.num_events))

    def _apply(self, event: Event) -> bool:
        match event["kind"]:
            case "start":
                self._start(event)
            case "metrics":
                self._metrics(event)
            case "artifacts":
                for source, folder in event["files"]:
                    self.client.log_artifact(self._run(), str(self.work / source), folder or None)
            case "outputs":
                for model in event["models"]:
                    self._output(model)
            case "register":
                model_id = register(self.client, self.client.get_run(self._run()), event, self.work)
                self.client.set_tag(self._run(), MODEL_TAG + NAME, model_id)  # _metrics gives it the final figures
            case "finish":
                self._delete_strays()
                parent.finish(self.client, self.client.get_run(self._run()), event)
                self.client.set_terminated(self._run(), status=event["status"], end_time=event["time_ms"])
                return True
        return False

    def _run(self) -> str:
        assert self.run_id, "the first event of a spool is start"
        return self.run_id

    def _start(self, event: Event) -> None:
        """Create the run, or continue with it after a resume."""
        if self.run_id is None:
            self._find_or_create(event)
        else:
            self.client.update_run(self.run_id, status="RUNNING")
        run = self.client.get_run(self._run())
        params = [Param(key, value) for key, value in event["params"].items() if key not in run.data.params]
        for start in range(0, len(params), MAX_PARAM_BATCH):
            self.client.log_batch(self._run(), params=params[start : start + MAX_PARAM_BATCH])
        made_by = {stage: resolve_run(self.client, value) for stage, value in event["upstream"].items()}
        upstream = {f"upstream.{stage}": run_id or UNKNOWN for stage, run_id in made_by.items()}
        tags = event["tags"] | upstream | parent.adopt(self.client, run, event)
        self.client.log_batch(self._run(), tags=[RunTag(key, value) for key, value in tags.items()])
        self._inputs(event, made_by)

    def _find_or_create(self, event: Event) -> None:
        """Reuse a run with this spool's tags: its deliverer was killed before it could note the id."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            experiment_id = self.client.create_experiment(EXPERIMENT, self.artifact_location, {KIND: TRAINING})
        elif experiment.lifecycle_stage == "deleted":
            raise MlflowException(deleted_experiment(mlflow.get_tracking_uri(), experiment.experiment_id))
        else:
            experiment_id = experiment.experiment_id
            if "inferred" in experiment.tags.get(KIND, "inferred"):  # set by MLflow, not by a person
                self.client.set_experiment_tag(experiment_id, KIND, TRAINING)
        tags = {"fingerprint": event["tags"]["fingerprint"], "spool": self.spool}
        if made := find_runs(self.client, tags):
            self._go_on(made[0])
        else:
            run = self.client.create_run(experiment_id, event["time_ms"], tags, run_name=event["run_name"])
            self.run_id = run.info.run_id
        self._note(0)

    def _delete_strays(self) -> None:
        """Delete empty runs: the server executed their create_run, but its answer never arrived."""
        for run in find_runs(self.client, {"spool": self.spool}):
            if run.info.run_id != self.run_id:
                self.client.delete_run(run.info.run_id)

    def _inputs(self, event: Event, made_by: dict[str, str | None]) -> None:
        """Datasets by digest; models by the LoggedModel of the run that made them."""
        datasets = [
            DatasetInput(
                Dataset(name=d["path"], digest=d["digest"][:36], source_type="local", source=d["path"]),
                [InputTag("mlflow.data.context", d["context"])],
            )
            for d in event["datasets"]
        ]
        models = [
            LoggedModelInput(model_id)
            for path, stage in event["models"]
            if (run_id := made_by[stage]) and (model_id := self._model(path, run_id))
        ]
        self.client.log_inputs(self._run(), datasets=datasets or None, models=models or None)

    def _model(self, path: str, run_id: str) -> str | None:
        """Id of the LoggedModel that stands for `path` in the run that made it; None if this store lacks that run."""
        run = find_run(self.client, run_id)
        return run.data.tags.get(MODEL_TAG + path) if run else None

    def _output(self, model: dict[str, Any]) -> None:
        """A LoggedModel for a published model directory, whose bytes stay in DVC. The run's tag is set last."""
        run = self.client.get_run(self._run())
        if MODEL_TAG + model["path"] in run.data.tags:
            return
        name = model["path"].split("/")[-1]
        outputs = {output.model_id for output in run.outputs.model_outputs}
        made = self.client.search_logged_models(
            [run.info.experiment_id], f"source_run_id = '{run.info.run_id}' AND name = '{name}'"
        )
        for stray in made:  # left by a deliverer that was killed half-way
            if stray.model_id not in outputs:
                self.client.delete_logged_model(stray.model_id)
        kept = [stray.model_id for stray in made if stray.model_id in outputs]
        if kept:
            model_id = kept[0]
        else:
            model_id = make_model(run, name, model)
            self.client.log_outputs(run.info.run_id, [LoggedModelOutput(model_id, 0)])
        self.client.set_tag(run.info.run_id, MODEL_TAG + model["path"], model_id)

    def _metrics(self, event: Event) -> None:
        """Final figures of the run and of its models, in one point each.

        A figure that the run already has is sent again unchanged, which MLflow counts once: a deliverer may have been
        killed between the run's figures and the model's.
        """
        run = self.client.get_run(self._run())
        parent.report(self.client, run, event)
        models = [value for key, value in run.data.tags.items() if key.startswith(MODEL_TAG)]
        metrics = []
        for key, value in event["values"].items():
            last = self.last.get(key)
            if last is None or last.step < event["step"]:
                self.last[key] = last = Metric(key, value, event["time_ms"], event["step"])
            metrics += [
                Metric(key, last.value, last.timestamp, last.step, model_id=model) for model in models or [None]
            ]
        self._send(metrics, MAX_MODEL_BATCH if models else MAX_BATCH)

    def _points(self, events: list[Event]) -> None:
        metrics = []
        for event in events:
            for key, value in event["values"].items():
                last = self.last.get(key)
                if last is None or last.step < event["step"]:
                    self.last[key] = Metric(key, value, event["time_ms"], event["step"])
                    metrics.append(self.last[key])
        self._send(metrics, MAX_BATCH)

    def _send(self, metrics: list[Metric], max_batch: int) -> None:
        for start in range(0, len(metrics), max_batch):
            self.client.log_batch(self._run(), metrics=metrics[start : start + max_batch])
