"""The stage contract: validate, fingerprint, lock, track, run, check, publish."""

import logging
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import groundup
from groundup.runner import candidate
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.clock import note_run, process_seconds
from groundup.runner.context import StageContext
from groundup.runner.describe import describe_outs, report_files, shown, start_event
from groundup.runner.device import stage_device
from groundup.runner.disk import DiskError, writing
from groundup.runner.environment import DVC_STAGE, ROLLOUTS, STRATEGY, TIMEOUT, main_root, set_environment
from groundup.runner.figures import REPORTED, Record, check_finite, choose, numbers, reproducible, write_record
from groundup.runner.files import publishing, read_json, remove, write_json, write_text
from groundup.runner.fingerprint import Fingerprint, InputsChangedError, changed_deps, take_fingerprint
from groundup.runner.interruption import Interruption, Terminated, end_with_dvc, end_with_parents, listening
from groundup.runner.launch.jobs import ASKED_TO_END, JobError
from groundup.runner.launch.processes import ProcessError, call_in_processes
from groundup.runner.launch.rank import Ranks, note_end, note_failure, note_result, own_work_dir, rank_of_process
from groundup.runner.launch.settings import read_launch
from groundup.runner.lock import locked_in_turn
from groundup.runner.params import ParamsError, load_params
from groundup.runner.params.selection import DeclaredParams, select
from groundup.runner.pipeline import PipelineError, read_pipeline
from groundup.runner.redact import redact_streams
from groundup.runner.tracking.check import check_store
from groundup.runner.tracking.spool import Spool, curve_csv, read_curve
from groundup.runner.tracking.tracker import Tracker
from groundup.runner.workdir import (
    PARTS,
    SCRATCH,
    discard,
    note_segment,
    note_start,
    read_finished,
    record_finished,
    sweep,
)

logger = logging.getLogger(__name__)

PEAK_MEMORY = "peak_memory_mb"
MAXRSS_PER_MB = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB on Linux

Body = Callable[[StageContext], dict[str, Any]]
USER_ERRORS = (ParamsError, PipelineError, OSError, DiskError, InputsChangedError, ProcessError, JobError)


def run_stage(name: str, body: Body, headlines: Sequence[str] = ()) -> None:
    """Run one stage as a process. `body` is not called if a finished result only has to be published.

    headlines: names of the returned figures that go to metrics/NAME.json. The processes of a body that runs in several
    start here too.
    """
    redact_streams()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if sys.stderr.isatty():
        logging.getLogger().handlers[0].setFormatter(RedWarnings())
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 uses what torch 2.13 deprecates
    set_environment(offline=name != "prepare")
    if work := own_work_dir():
        _run_rank(Path.cwd(), name, body, work)
    try:
        _run(Path.cwd(), name, body, headlines)
    except Exception as error:
        if _tells_all(error):
            logger.error("%s failed: %s\n%s", name, _explain(error), _recovery(name))
            sys.exit(1)
        logger.error("%s failed unexpectedly, as the traceback below shows.\n%s", name, _recovery(name))
        raise


class RedWarnings(logging.Formatter):
    """The message, in red on a terminal if it is a warning or an error."""

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return f"\033[31m{message}\033[0m" if record.levelno >= logging.WARNING else message


def _tells_all(error: Exception) -> bool:
    """Whether the message suffices for the user; a ValueError raised inside a library needs its traceback."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    is_ours = frame.f_globals["__name__"].partition(".")[0] in ("groundup", "stages", "__main__")
    return bool(str(error)) and (isinstance(error, USER_ERRORS) or (isinstance(error, ValueError) and is_ours))


def _explain(error: Exception) -> str:
    """The error's own message; one of the operating system gets a remedy added."""
    if isinstance(error, OSError) and error.filename:
        return (
            f"{error.filename}: {error.strerror}. Check that it exists, that you may write there, and that no file "
            "has the name of a folder"
        )
    return str(error)


def _recovery(name: str) -> str:
    """DVC deletes outs and metrics before it runs a stage; a stage run directly deletes nothing."""
    if DVC_STAGE in os.environ:
        return f"The last outputs: `dvc checkout {name}`, the last metrics: `git checkout -- 'metrics/{name}.*'`."
    return "Earlier outputs and metrics are as they were."


def _run(root: Path, name: str, body: Body, headlines: Sequence[str] = ()) -> None:
    with listening() as interruption:
        end_with_dvc(interruption)
        _run_listening(root, name, body, headlines, interruption)
    logger.info("%s done in %.0f s", name, process_seconds())


def _run_rank(root: Path, name: str, body: Body, work: Path) -> NoReturn:
    """One of the processes that `call_in_processes` started: the body, and what it returns to the first of them."""
    rank = rank_of_process()
    if rank > 0:
        logging.getLogger().setLevel(logging.ERROR)  # the first one speaks for all
    checkpoints = None
    try:
        with listening(patient=True) as interruption:
            end_with_parents(interruption)
            check_origin(root)
            spec, params = read_pipeline(root)[name], load_params(root / "params.yaml")
            fingerprint = Fingerprint(**read_json(work / PARTS))
            processes = Ranks(fingerprint.device)
            checkpoints = Checkpoints(work / SCRATCH / "checkpoints", interruption, Spool(work).sync, processes)
            stage = StageContext(
                *(root, spec, DeclaredParams(params, spec.params), fingerprint, work, checkpoints),
                strategy=os.environ[STRATEGY],
                rollouts=os.environ[ROLLOUTS].split(),
                timeout=float(os.environ[TIMEOUT]),
            )
            if changed := _changed_params(stage):
                raise InputsChangedError(f"{name}: {', '.join(changed)} changed while the stage started")
            try:
                metrics = body(stage)
            except Terminated:
                if checkpoints.has_ended:
                    note_end(work)
                    processes.leave(ASKED_TO_END)
                raise
            check_finite(name, metrics)
            note_result(stage, metrics | {PEAK_MEMORY: own_peak_memory()})
            processes.leave()
    except Exception as error:
        note_failure(work, error, _explain(error), checkpoints.last_done if checkpoints else None)
        if _tells_all(error):
            sys.exit(1)
        raise


def _run_listening(root: Path, name: str, body: Body, headlines: Sequence[str], interruption: Interruption) -> None:
    check_origin(root)
    pipeline = read_pipeline(root)
    if name not in pipeline:
        raise PipelineError(f"dvc.yaml has no stage {name}; it has {', '.join(pipeline)}")
    spec = pipeline[name]
    params = load_params(root / "params.yaml")
    problem = check_store(root, to_write=True)
    launch = read_launch(root, name)
    device = stage_device(launch) if "runtime" in spec.params else "cpu"
    if launch.is_spread:
        body = partial(call_in_processes, launch=launch)
    fingerprint = take_fingerprint(root, spec, select(params, spec.params), device)
    folder = main_root(root) / ".work" / name
    work = folder / fingerprint.value
    with writing(f"the work of {name}", folder):
        sweep(root, folder, spec, fingerprint)
        with locked_in_turn(work) as has_waited:
            checkpoints = Checkpoints(work / SCRATCH / "checkpoints", interruption, Spool(work).sync)
            stage = StageContext(
                *(root, spec, DeclaredParams(params, spec.params), fingerprint, work, checkpoints),
                rollouts=launch.rollouts,
                timeout=launch.timeout,
            )
            if has_waited and (changed := changed_deps(root, fingerprint) + _changed_params(stage)):
                raise InputsChangedError(
                    f"{name}: {', '.join(changed)} changed while it waited for another process: run it again"
                )
            note_start(folder, work, fingerprint)
            stage.work.mkdir(exist_ok=True)
            start = start_event(root, pipeline, fingerprint)
            start["tags"] |= note_segment(work, stage.progress, launch)
            _run_tracked(stage, body, headlines, start, problem)


def _run_tracked(
    stage: StageContext, body: Body, headlines: Sequence[str], start: dict[str, Any], problem: str | None
) -> None:
    tracker = Tracker(stage.root, stage.folder, start, problem)
    status = "FAILED"
    with ExitStack() as outs:
        try:
            finished = read_finished(stage.folder)
            metrics = finished or _train(stage, body)
            _check_kept(stage, _changed_params(stage))
            record = Record(stage.fingerprint.value, choose(metrics, headlines))
            outs.enter_context(publishing(_copies(stage, tracker, record)))
            _report(stage, tracker, metrics)
            status = "FINISHED"
        except Terminated:
            status = "KILLED"
            raise
        finally:
            tracker.finish(status)
        # It may have waited for MLflow; DVC hashes deps after the command and would record an edit as what was read.
        _check_kept(stage, changed_deps(stage.root, stage.fingerprint) + _changed_params(stage))
        note_run(stage.root, stage.fingerprint, metrics, tracker.run_id, is_new=finished is None)


def _check_deps(stage: StageContext) -> None:
    """Remove what was made from deps that changed half-way, checkpoints included: it belongs to no fingerprint."""
    if changed := changed_deps(stage.root, stage.fingerprint):
        discard(stage.folder)
        raise InputsChangedError(
            f"{stage.spec.name}: {', '.join(changed)} changed while the stage ran, so its work may mix both versions "
            "and was removed, checkpoints included; `dvc repro` starts it from scratch"
        )


def _changed_params(stage: StageContext) -> list[str]:
    params = select(load_params(stage.root / "params.yaml"), stage.spec.params)
    return [] if params == stage.fingerprint.params else ["params.yaml"]


def _check_kept(stage: StageContext, changed: list[str]) -> None:
    """Refuse to record a finished result after a change; it stays in the work dir of its fingerprint."""
    if changed:
        raise InputsChangedError(
            f"{stage.spec.name}: {', '.join(changed)} changed while the stage ran, so its result is kept but not "
            "published. Undo the edit and `dvc repro` publishes it; `dvc repro` with the edit starts from scratch"
        )


def _train(stage: StageContext, body: Body) -> dict[str, Any]:
    """Call the body; the record of its success is written last."""
    remove(stage.export)
    metrics = body(stage)
    missing = [out for out in stage.spec.outs if not (stage.export / out).exists()]
    if missing:
        raise PipelineError(f"{stage.spec.name} declares {', '.join(missing)} but did not write them")
    check_finite(stage.spec.name, metrics)
    if stage.spec.report:
        write_json(stage.export / stage.spec.report / REPORTED, reproducible(metrics))
    _check_deps(stage)
    metrics.setdefault(PEAK_MEMORY, own_peak_memory())
    stage.checkpoints.sync_points()
    record_finished(stage.folder, stage.spec.outs, metrics)
    return metrics


def own_peak_memory() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MB, 1)


def _copies(stage: StageContext, tracker: Tracker, record: Record) -> list[tuple[Path, Path]]:
    """Staged outs, curves and the record, each with its target."""
    for path in stage.spec.plots:
        write_text(stage.export / path, curve_csv(read_curve(tracker.work)))
    record_file = write_record(stage.export, stage.spec.name, record)
    staged = [*(stage.export / path for path in (*stage.spec.outs, *stage.spec.plots)), record_file]
    return [(path, stage.root / path.relative_to(stage.export)) for path in staged]


def _report(stage: StageContext, tracker: Tracker, metrics: dict[str, Any]) -> None:
    """The record of the run, for MLflow."""
    registered = None
    if stage.spec.name == candidate.STAGE:
        report, digest = stage.export / candidate.REPORT, stage.fingerprint.digests[candidate.MODEL]
        registered = candidate.register_event(stage.root, tracker.work, report, metrics, digest)
    # MLflow shows the value of the highest step, so final figures come after the curve.
    step = 1 + max((int(row["step"]) for row in read_curve(tracker.work)), default=0)
    tracker.spool.write("outputs", models=describe_outs(stage.export, stage.spec.outs))
    if registered:
        tracker.spool.write("register", **registered)
    values = numbers(metrics)  # logged to the run and to its models; some of them to its parent too
    tracker.spool.write("metrics", values=values, step=step, shown=shown(stage.spec, metrics))
    tracker.spool.write("artifacts", files=report_files(tracker.work, stage.spec.outs))


def check_origin(root: Path) -> None:
    """An editable install points at one checkout; a clone or `dvc exp run --temp` must run its own code."""
    imported = Path(groundup.__file__ or "").resolve().parent
    if imported != (root / "src" / "groundup").resolve():
        raise PipelineError(
            f"groundup comes from {imported}, not from {root / 'src'}: start stages as `python -m stages.NAME` "
            "from the repository root"
        )
