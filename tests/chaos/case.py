"""One kill: run the stage until the kill, run the same `dvc repro` again, compare."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

import psutil

from groundup.runner.params import load_params
from groundup.runner.pipeline import StageSpec, read_pipeline
from tests.chaos.compare import differing_files, differing_history, runs_now
from tests.chaos.events import Event, of_stage, read_events
from tests.chaos.measure import (
    allowed_steps,
    checkpoint_interval,
    curve_steps,
    death,
    instant,
    kill_event,
    points,
    seconds_lost,
    tear,
    trained,
    went_on_from,
)
from tests.chaos.plan import Kill
from tests.smoke_run import SmokeRun, audit, environment

DVC_SECONDS = 300
MAX_TRIES = 4
END_SECONDS = 30  # for leftover processes
NOTICE_SECONDS = 15  # for a stage to notice that its dvc has ended, to write a checkpoint and to notify MLflow
# DVC writes this file in place; after a kill at that instant, its error says what is wrong but not the remedy.
TORN_LOCK = "Unable to read RWLock-file"
# It makes a folder of its run cache and then the file in it; after a kill in between it finds no file there.
EMPTY_RUN_CACHE = "join() argument must be str, bytes, or os.PathLike object, not 'NoneType'"


@dataclass
class Outcome:
    """The outcome of one kill. Steps and seconds are repeated work; None if there are no steps."""

    stage: str
    window: str
    signal: str
    target: str
    instant: str
    torn: str | None = None
    remedy: str | None = None  # what a user had to do between the kill and the second dvc repro
    killed: bool = False
    survived: bool = False
    identical: bool = False
    history_whole: bool = False
    trained_again: bool = False
    steps_lost: int | None = None
    seconds_lost: float | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.killed and not self.problems

    def line(self) -> str:
        lost = "" if self.seconds_lost is None else f"  lost {self.seconds_lost:.1f} s"
        lost += "" if self.steps_lost is None else f", {self.steps_lost} steps"
        verdict = "ok  " if self.is_good else "BAD " if self.killed else "MISS"
        remedy = f"  after {self.remedy}" if self.remedy else ""
        text = f"{verdict} {self.stage:9} {self.window:10} {self.signal} {self.target:5} {self.instant}{lost}{remedy}"
        return "\n".join([text, *(f"       {problem}" for problem in self.problems)])


class Case:
    """A kill in the checkout of `run`, which is restored to the moment before the stage."""

    def __init__(self, run: SmokeRun, kill: Kill, wanted_history: dict[str, Any]) -> None:
        self.run, self.kill, self.root = run, kill, run.root
        self.wanted_history = wanted_history
        self.spec: StageSpec = read_pipeline(run.after)[kill.stage]
        self.log = run.log.with_name("case.tsv")
        self.output = run.log.with_name("case.log")
        signal = Signals(kill.signal).name
        self.outcome = Outcome(kill.stage, kill.window, signal, kill.target, "never")

    def play(self) -> Outcome:
        self.run.restore(self.run.before(self.kill.stage))
        for path in (self.log, self.output):
            path.unlink(missing_ok=True)
        try:
            self._kill_and_resume()
        finally:
            wait_for_end(read_events(self.log), ("dvc", "stage", "deliver"), END_SECONDS)
        return self.outcome

    def _kill_and_resume(self) -> None:
        code = self._repro(GROUNDUP_KILL=self.kill.variable)
        killed = read_events(self.log)
        outcome, kill, stage = self.outcome, kill_event(killed), self.kill.stage
        if kill is None or code == 0:
            outcome.problems.append(f"it ended, with {code}, before the kill after access {self.kill.number}")
            return
        outcome.killed, outcome.instant = True, instant(killed, kill)
        if wait_for_end(killed, ("stage",), END_SECONDS):
            outcome.problems.append(f"the stage continued for {END_SECONDS} s without its dvc")
        self._check_end(death(kill))
        before, runs = points(self.root, stage), runs_now(self.root, stage)
        if self.kill.torn:
            outcome.torn = tear(self.root / ".work" / stage)
        skip = self.log.stat().st_size
        code = self._repro()
        if code != 0 and TORN_LOCK in self._all_output():
            outcome.remedy = "rm .dvc/tmp/rwlock"
            (self.root / ".dvc/tmp/rwlock").unlink()
            code = self._repro()
        elif code != 0 and EMPTY_RUN_CACHE in self._all_output():
            outcome.remedy = "dvc repro --no-run-cache"
            code = self._repro("--no-run-cache")
        outcome.survived = code == 0
        if not outcome.survived:
            outcome.problems.append(f"the second dvc repro ended with {code}: {self._last_output()}")
            return
        self._measure(killed, kill, read_events(self.log, skip), before)
        files = differing_files(self.root, self.run.after, self.run.before(stage), self.spec)
        history = differing_history(self.root, self.spec, self.wanted_history, runs)
        outcome.identical, outcome.history_whole = not files, not history
        outcome.problems += files + history

    def _repro(self, *options: str, **extra: str) -> int:
        """In its own session, so that a signal to dvc's process group reaches only dvc and the stage."""
        command = [sys.executable, "-m", "dvc", "repro", *options, self.kill.stage]
        env = environment(**audit(self.log), **extra)
        with self.output.open("a", encoding="utf-8") as output:
            process = subprocess.Popen(
                command, cwd=self.root, env=env, stdout=output, stderr=output, start_new_session=True
            )
            try:
                return process.wait(DVC_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

    def _all_output(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def _last_output(self) -> str:
        return " | ".join(self._all_output().splitlines()[-6:])[-700:]

    def _check_end(self, died: float) -> None:
        """A stage that is asked to end, or whose dvc has ended, reports it by its exit status and in MLflow."""
        problems, signal = self.outcome.problems, self.kill.signal
        dvc_died = (signal, self.kill.target) == (SIGTERM, "group")  # without a word on the stage's exit status
        if signal != SIGKILL and not dvc_died and f"exited with {128 + signal}" not in self._all_output():
            problems.append(f"the stage did not exit with {128 + signal}: {self._last_output()}")
        last = max(event.time for event in of_stage(read_events(self.log), self.kill.stage))
        if signal == SIGKILL and (self.kill.target == "self" or last - died < NOTICE_SECONDS):
            return
        if last - died > NOTICE_SECONDS and signal == SIGKILL:
            problems.append(f"the stage worked on for {last - died:.0f} s without its dvc")
        statuses = list(runs_now(self.root, self.kill.stage).values())
        if statuses != ["KILLED"]:
            problems.append(f"MLflow says {statuses} of a run that was asked to end, not KILLED")

    def _measure(
        self, killed: list[Event], kill: Event, resumed: list[Event], before: list[tuple[int, float]]
    ) -> None:
        """The repeated work, and whether it exceeds what the kill explains."""
        stage, outcome = self.kill.stage, self.outcome
        outcome.trained_again = trained(resumed, stage)
        if self.kill.window in ("publish", "commit") and outcome.trained_again:
            outcome.problems.append("it trained again although its result was finished")
        went_on_at = None
        params = load_params(self.run.after / "params.yaml")
        if checkpoint_interval(params, stage) is not None:
            logged = dict(before)
            after = [step for step, _ in points(self.root, stage)[len(before) :]]
            step = went_on_from(curve_steps(self.run.after, stage), list(logged), after)
            went_on_at = logged.get(step, 0.0)
            outcome.steps_lost = max(0, max(logged, default=0) - step)
            allowed = allowed_steps(params, self.kill)
            if outcome.steps_lost > allowed:
                outcome.problems.append(f"{outcome.steps_lost} steps were done again, more than {allowed}")
        outcome.seconds_lost = seconds_lost(killed, kill, stage, went_on_at) if outcome.trained_again else 0.0


def wait_for_end(events: list[Event], roles: tuple[str, ...], seconds: float) -> bool:
    """Wait for the processes of the log, then kill them; returns whether that was needed."""
    end = time.monotonic() + seconds
    pids = {event.pid for event in events if event.role in roles}
    while alive := [pid for pid in pids if is_running(pid)]:
        if time.monotonic() > end:
            for pid in alive:
                os.kill(pid, SIGKILL)
            return True
        time.sleep(0.1)
    return False


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def strike(run: SmokeRun, kill: Kill, wanted_history: dict[str, Any]) -> Outcome:
    """Run the kill; if the machine is faster than in the uninterrupted run, again with an earlier kill."""
    for _ in range(MAX_TRIES):
        outcome = Case(run, kill, wanted_history).play()
        if outcome.killed:
            break
        kill = replace(kill, delay=kill.delay / 3)
    return outcome
