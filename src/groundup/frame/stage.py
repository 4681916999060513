"""The stage contract: validate, fingerprint, lock, track, run, check, publish."""

import fcntl
import logging
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import psutil

import groundup
from groundup.frame.describe import describe_outs, start_event
from groundup.frame.environment import main_root, resolve_device, set_environment
from groundup.frame.files import dvc_md5, publish, read_json, remove, write_json, write_text
from groundup.frame.fingerprint import Fingerprint, InputsChangedError, check_unchanged, take_fingerprint
from groundup.frame.params import Params, ParamsError, load_params
from groundup.frame.params.selection import DeclaredParams, select
from groundup.frame.pipeline import PipelineError, StageSpec, read_pipeline, recorded_outs
from groundup.frame.tracking.spool import curve_csv, is_delivered, read_curve
from groundup.frame.tracking.tracker import Tracker

logger = logging.getLogger(__name__)

MAXRSS_PER_MB = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB on Linux

UNDELIVERED = "-undelivered-"

Body = Callable[["Stage"], dict[str, Any]]
USER_ERRORS = (ParamsError, PipelineError, FileNotFoundError, InputsChangedError, ValueError)


class Terminated(SystemExit):
    """SIGTERM or SIGINT; the exit code is 128 + signal, since Lightning and transformers by themselves exit with 0."""


class Stage:
    """What a stage body sees: its declared params, deps, outs, device and a place for checkpoints."""

    def __init__(self, root: Path, spec: StageSpec, params: Params, fingerprint: Fingerprint, work: Path) -> None:
        self.root = root
        self.spec = spec
        self.params = DeclaredParams(params, spec.params)
        self.fingerprint = fingerprint
        self.device = fingerprint.device
        self.work = work / "scratch"
        self.export = work / "export"
        self.import_seconds = 0.0
        self._tracker: Tracker | None = None

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Times the heavy imports of a body."""
        start = time.monotonic()
        yield
        self.import_seconds += time.monotonic() - start

    def dep(self, path: str) -> Path:
        if path not in self.spec.inputs:
            raise PipelineError(f"{self.spec.name} reads {path}: declare it under deps in dvc.yaml")
        return self.root / path

    def out(self, path: str) -> Path:
        """A staging path, published as `path` once the stage has succeeded."""
        if path not in self.spec.outs:
            raise PipelineError(f"{self.spec.name} writes {path}: declare it under outs in dvc.yaml")
        staged = self.export / path
        staged.parent.mkdir(parents=True, exist_ok=True)
        return staged

    def log(self, step: int, **values: float) -> None:
        assert self._tracker is not None
        self._tracker.log(step, **values)

    def track(self, tracker: Tracker) -> None:
        self._tracker = tracker


def run_stage(name: str, body: Body) -> None:
    """Run one stage as a process: `body` is called unless a finished result only waits to be published."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 uses what torch 2.13 deprecates
    set_environment(offline=name != "prepare")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _raise_terminated)
    try:
        _run(Path.cwd(), name, body)
    except USER_ERRORS as error:
        if logger.isEnabledFor(logging.DEBUG) or not str(error):
            raise
        logger.error("%s failed: %s%s", name, error, _recovery(name))
        sys.exit(1)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def _recovery(name: str) -> str:
    """DVC deletes outs and metrics before it runs a stage; say how to get the last ones back."""
    return f"\nThe last outputs: `dvc checkout {name}`, the last metrics: `git checkout -- metrics`."


def _run(root: Path, name: str, body: Body) -> None:
    check_origin(root)
    pipeline = read_pipeline(root)
    if name not in pipeline:
        raise PipelineError(f"dvc.yaml has no stage {name}; it has {', '.join(pipeline)}")
    spec = pipeline[name]
    params = load_params(root / "params.yaml")
    start = time.monotonic()
    device = resolve_device() if "runtime" in spec.params else "cpu"
    device_seconds = time.monotonic() - start  # importing torch, for the most part
    fingerprint = take_fingerprint(root, spec, select(params, spec.params), device)
    folder = main_root(root) / ".work" / name
    work = folder / fingerprint.value[:16]
    sweep(root, folder, spec)
    with locked(work):
        stage = Stage(root, spec, params, fingerprint, work)
        stage.work.mkdir(exist_ok=True)
        stage.import_seconds = device_seconds
        tracker = Tracker(root, work, start_event(root, pipeline, fingerprint))
        stage.track(tracker)
        status = "FAILED"
        try:
            metrics = _finished(work) or _train(stage, body, work)
            _check_inputs(stage, work)
            _publish(stage, tracker, metrics)
            status = "FINISHED"
        except Terminated:
            status = "KILLED"
            raise
        finally:
            tracker.finish(status)
        write_json(
            root / f"metrics/{name}.json",
            metrics | {"stage_seconds": _process_seconds(), "mlflow_run_id": tracker.run_id},
        )
    logger.info("%s done in %.0f s", name, _process_seconds())


def _check_inputs(stage: Stage, work: Path) -> None:
    """What was made of inputs that changed half-way belongs to no fingerprint: remove it, checkpoints included."""
    params = select(load_params(stage.root / "params.yaml"), stage.spec.params)
    try:
        check_unchanged(stage.fingerprint, take_fingerprint(stage.root, stage.spec, params, stage.device))
    except InputsChangedError:
        for path in (work / "finished.json", stage.export, stage.work):
            remove(path)
        raise


def _train(stage: Stage, body: Body, work: Path) -> dict[str, Any]:
    """Call the body; the record of its success is written last."""
    remove(stage.export)
    start, imported = time.monotonic(), stage.import_seconds
    metrics = body(stage)
    seconds = time.monotonic() - start - (stage.import_seconds - imported)
    missing = [out for out in stage.spec.outs if not (stage.export / out).exists()]
    if missing:
        raise PipelineError(f"{stage.spec.name} declares {', '.join(missing)} but did not write them")
    metrics |= {
        "fingerprint": stage.fingerprint.value,
        "work_seconds": round(seconds, 2),
        "import_seconds": round(stage.import_seconds, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MB, 1),
    }
    md5s = {out: dvc_md5(stage.export / out) for out in stage.spec.outs}
    write_json(work / "finished.json", {"metrics": metrics, "md5s": md5s})
    return metrics


def _finished(work: Path) -> dict[str, Any] | None:
    """Metrics of a result that was finished but that DVC has not recorded; None if there is none."""
    if not (work / "finished.json").exists():
        return None
    logger.info("a finished result of these inputs waits in %s: publishing it again", work)
    return dict(read_json(work / "finished.json")["metrics"])


def _publish(stage: Stage, tracker: Tracker, metrics: dict[str, Any]) -> None:
    """Outs, then the curve, then the record of the run; the metrics file is written last, by the caller."""
    for out in stage.spec.outs:
        publish(stage.export / out, stage.root / out)
    for path in stage.spec.plots:
        write_text(stage.root / path, curve_csv(read_curve(tracker.work)))
    numbers = flatten(metrics)
    # MLflow shows the value of the highest step, so final figures come after the curve.
    step = 1 + max((int(row["step"]) for row in read_curve(tracker.work)), default=0)
    tracker.spool.write("metrics", values=numbers, step=step)
    tracker.spool.write("outputs", models=describe_outs(stage.export, stage.spec.outs, numbers))
    reports = [out for out in stage.spec.outs if out.startswith("artifacts/report")]
    files = [
        (str(file.relative_to(tracker.work)), str(file.parent.relative_to(stage.export / report)).removeprefix("."))
        for report in reports
        for file in sorted((stage.export / report).rglob("*"))
        if file.is_file()
    ]
    tracker.spool.write("artifacts", files=files)


def flatten(metrics: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of a nested dict under dotted names; text is left out."""
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[prefix + key] = value
    return flat


def sweep(root: Path, folder: Path, spec: StageSpec) -> None:
    """Clear work dirs whose result dvc.lock records: DVC has their bytes, and a forced run trains afresh.

    What MLflow has not taken yet stays, for `groundup deliver`.
    """
    recorded = recorded_outs(root, spec.name)
    for record in sorted(folder.glob("[0-9a-f]*/finished.json")):
        if UNDELIVERED in record.parent.name and not is_delivered(record.parent):
            continue
        if all(recorded.get(out) == md5 for out, md5 in read_json(record)["md5s"].items()):
            with locked(record.parent):
                if is_delivered(record.parent):
                    remove(record.parent)
                else:
                    record.parent.rename(record.parent.with_name(f"{record.parent.name}{UNDELIVERED}{time.time_ns()}"))


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Hold the work dir; a second holder is told who the first is."""
    work.mkdir(parents=True, exist_ok=True)
    path = work.parent / f"{work.name}.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise PipelineError(
                f"process {file.read().strip() or 'unknown'} already works on {work}: wait for it, or end it first"
            ) from None
        _note_holder(file)
        yield


def _note_holder(file: TextIO) -> None:
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def check_origin(root: Path) -> None:
    """An editable install points at one checkout; a clone or `dvc exp run --temp` must run its own code."""
    imported = Path(groundup.__file__ or "").resolve().parent
    if imported != (root / "src" / "groundup").resolve():
        raise PipelineError(
            f"groundup comes from {imported}, not from {root / 'src'}: start stages as `python -m stages.NAME` "
            "from the repository root"
        )


def _process_seconds() -> float:
    """Since the interpreter started."""
    return round(time.time() - psutil.Process().create_time(), 2)
