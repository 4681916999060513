"""The deliverer: `python -m groundup.frame.tracking.deliver WORK` reads a spool and sends it to MLflow.

It runs beside the stage, so that neither the import of MLflow nor a slow or dead server holds up training, and ends
when the run has ended or the stage's process is gone.
"""

import logging
import os
import sys
import time
from pathlib import Path

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
    RunTag,
)
from mlflow.exceptions import MlflowException

from groundup.frame.files import write_json
from groundup.frame.tracking.spool import EVENTS, RUN, Event, read_delivered, read_events

logger = logging.getLogger("groundup.deliver")

POLL_SECONDS = 0.5
RETRY_SECONDS = 5.0
MAX_BATCH = 1000  # metrics in one log_batch, MLflow's limit
MAX_PARAM_BATCH = 100


class Deliverer:
    """Applies events in order; each is safe to apply again, so a crash between sending and noting is harmless."""

    def __init__(self, work: Path, tracking_uri: str, artifact_location: str | None) -> None:
        self.work = work
        self.artifact_location = artifact_location
        mlflow.set_tracking_uri(tracking_uri)
        self.client = MlflowClient()
        delivered = read_delivered(work)
        self.run_id = delivered.run_id
        self.num_events = delivered.num_events
        self.last_step: dict[str, int] = {}
        if self.run_id:
            self._read_last_steps(self.run_id)

    def _read_last_steps(self, run_id: str) -> None:
        """The last step of each key that the store already has: points of a resumed run are not sent twice."""
        for key in self.client.get_run(run_id).data.metrics:
            history = self.client.get_metric_history(run_id, key)
            self.last_step[key] = max(metric.step for metric in history)

    def deliver(self) -> bool:
        """Send what is new; True once the run has ended."""
        events = list(read_events(self.work / EVENTS, self.num_events))
        points: list[Event] = []
        ended = False
        for event in events:
            if event["kind"] == "point":
                points.append(event)
                continue
            self._points(points)
            points = []
            ended = self._apply(event)
        self._points(points)
        if events:
            self.num_events += len(events)
            write_json(self.work / RUN, {"run_id": self.run_id, "num_events": self.num_events})
        return ended

    def _apply(self, event: Event) -> bool:
        match event["kind"]:
            case "start":
                self._start(event)
            case "metrics":
                metrics = [
                    Metric(key, value, event["time_ms"], event["step"]) for key, value in event["values"].items()
                ]
                self.client.log_batch(self._run(), metrics=metrics)
            case "artifacts":
                for source, folder in event["files"]:
                    self.client.log_artifact(self._run(), str(self.work / source), folder or None)
            case "outputs":
                self._outputs(event)
            case "finish":
                self.client.set_terminated(self._run(), status=event["status"])
                return True
        return False

    def _run(self) -> str:
        assert self.run_id, "the first event of a spool is start"
        return self.run_id

    def _start(self, event: Event) -> None:
        """Create the run, or go on with it after a resume."""
        tags = [RunTag(key, value) for key, value in event["tags"].items()]
        if self.run_id is None:
            experiment = self.client.get_experiment_by_name(event["experiment"])
            experiment_id = (
                experiment.experiment_id
                if experiment
                else self.client.create_experiment(event["experiment"], artifact_location=self.artifact_location)
            )
            run = self.client.create_run(experiment_id, run_name=event["run_name"], start_time=event["time_ms"])
            self.run_id = run.info.run_id
            write_json(self.work / RUN, {"run_id": self.run_id, "num_events": 0})
            params = [Param(key, value) for key, value in event["params"].items()]
            for start in range(0, len(params), MAX_PARAM_BATCH):
                self.client.log_batch(self.run_id, params=params[start : start + MAX_PARAM_BATCH])
        else:
            self.client.update_run(self.run_id, status="RUNNING")
        self.client.log_batch(self.run_id, tags=tags)
        self._inputs(event)

    def _inputs(self, event: Event) -> None:
        """Datasets by digest; models by the LoggedModel of the run that made them."""
        datasets = [
            DatasetInput(
                Dataset(name=d["path"], digest=d["digest"][:36], source_type="local", source=d["path"]),
                [InputTag("mlflow.data.context", d["context"])],
            )
            for d in event["datasets"]
        ]
        models = [
            LoggedModelInput(model_id) for path, run_id in event["models"] if (model_id := self._model(path, run_id))
        ]
        self.client.log_inputs(self._run(), datasets=datasets or None, models=models or None)

    def _model(self, path: str, run_id: str) -> str | None:
        """Id of the LoggedModel that stands for `path` in the run that made it; None if this store lacks that run."""
        try:
            return self.client.get_run(run_id).data.tags.get(f"model.{path}")
        except MlflowException as error:
            logger.warning("no LoggedModel for %s: run %s is not in this store (%s)", path, run_id, error.message)
            return None

    def _outputs(self, event: Event) -> None:
        """One LoggedModel for each published model directory; its bytes stay with DVC."""
        run = self.client.get_run(self._run())
        for model in event["models"]:
            model_id = run.data.tags.get(f"model.{model['path']}")
            if model_id is None:
                model_id = mlflow.create_external_model(
                    name=model["path"].split("/")[-1],
                    source_run_id=run.info.run_id,
                    tags={"dvc.path": model["path"], "dvc.md5": model["md5"]},
                    params=model["params"],
                    model_type=model["model_type"],
                    experiment_id=run.info.experiment_id,
                ).model_id
                self.client.set_tag(self._run(), f"model.{model['path']}", model_id)
                self.client.log_outputs(self._run(), [LoggedModelOutput(model_id, 0)])
            metrics = [Metric(k, v, event["time_ms"], 0, model_id=model_id) for k, v in model["metrics"].items()]
            self.client.log_batch(self._run(), metrics=metrics)

    def _points(self, events: list[Event]) -> None:
        metrics = []
        for event in events:
            for key, value in event["values"].items():
                if event["step"] > self.last_step.get(key, -1):
                    self.last_step[key] = event["step"]
                    metrics.append(Metric(key, value, event["time_ms"], event["step"]))
        for start in range(0, len(metrics), MAX_BATCH):
            self.client.log_batch(self._run(), metrics=metrics[start : start + MAX_BATCH])


def main(work: Path, tracking_uri: str, artifact_location: str | None, parent: int) -> None:
    deliverer: Deliverer | None = None
    while os.getppid() == parent:
        try:
            if deliverer is None:
                deliverer = Deliverer(work, tracking_uri, artifact_location)
            if deliverer.deliver():
                return
        except MlflowException as error:
            logger.warning("MLflow at %s: %s; trying again", tracking_uri, error.message)
            deliverer = None
            time.sleep(RETRY_SECONDS)
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] or None, int(sys.argv[4]))
