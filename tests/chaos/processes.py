"""`python -m tests.chaos.processes`: stages in two processes lose one, all, torchrun or their own, or have to end.

After each, the same `dvc repro` has to make what an uninterrupted run made. Outcomes: docs/reliability_processes.json.
--in FOLDER keeps the uninterrupted run and each outcome: after an interruption the same command plays the rest.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

import psutil

from groundup.runner.pipeline import read_pipeline
from tests.chaos.compare import differing_files, differing_history, histories, runs_now
from tests.conftest import ROOT, copy_working_tree
from tests.smoke_run import SmokeRun, environment, run_stages

SEED = 21
RESULTS = ROOT / "docs/reliability_processes.json"
STAGES = ("pretrain", "sft", "reward", "align", "evaluate")
PROCESSES = {"GROUNDUP_PROCESSES": "2"}
# Target -> kills per stage.
KILLS = {"one process": 1, "all processes": 1, "torchrun": 1, "the stage": 1}
TERMINATIONS = 4  # SIGTERM to the stage, per stage: 20
STARTED = 0.3  # of the time that the processes run; before it they import
MAX_TRIES = 4
DVC_SECONDS = 300
END_SECONDS = 60  # for what is left of a stage that was killed: its processes end at the next checkpoint


@dataclass
class Outcome:
    stage: str
    target: str
    signal: str
    fraction: float  # of the time that the processes run without a kill
    killed: bool = False
    clean: bool = False  # it ended as it should, and all of its processes with it
    seconds_to_end: float | None = None
    survived: bool = False
    identical: bool = False
    history_whole: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.killed and not self.problems

    def line(self) -> str:
        verdict = "ok  " if self.is_good else "BAD " if self.killed else "MISS"
        ended = "" if self.seconds_to_end is None else f"  ended after {self.seconds_to_end:.1f} s"
        text = f"{verdict} {self.stage:9} {self.signal} to {self.target}, at {self.fraction:.0%}{ended}"
        return "\n".join([text, *(f"       {problem}" for problem in self.problems)])


class Repro:
    """`dvc repro` of one stage in two processes, and the processes below it."""

    def __init__(self, root: Path, stage: str, output: Path) -> None:
        self.stage = stage
        command = [sys.executable, "-m", "dvc", "repro", stage]
        with output.open("a", encoding="utf-8") as file:
            self.dvc = subprocess.Popen(
                command, cwd=root, env=environment(**PROCESSES), stdout=file, stderr=file, start_new_session=True
            )
        self.below: set[psutil.Process] = set()

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None if it has not ended after so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(psutil.NoSuchProcess):
                self.below |= set(psutil.Process(self.dvc.pid).children(recursive=True))
            if self.dvc.poll() is not None:
                return self.dvc.returncode
            time.sleep(0.05)
        return None

    def wait_for_processes(self) -> float:
        """Until torchrun has started them; when that was."""
        while not self.targets("all processes") and self.wait(0.05) is None:
            pass
        return time.monotonic()

    def targets(self, name: str) -> list[psutil.Process]:
        commands: dict[psutil.Process, list[str]] = {}
        for process in self.below:
            with suppress(psutil.Error):
                commands[process] = process.cmdline()
        torchrun = [it for it, line in commands.items() if "groundup.runner.launch.torchrun" in line]
        if name == "torchrun":
            return torchrun
        stages = [it for it, line in commands.items() if f"stages.{self.stage}" in line and it not in torchrun]
        with suppress(psutil.NoSuchProcess):
            ranks = [it for it in stages if it.parent() in torchrun]
            own = [it for it in stages if it not in ranks and Path(commands[it][0]).name.startswith("python")]
            return {"all processes": ranks, "one process": ranks[-1:], "the stage": own}[name]
        return []

    def left(self, seconds: float) -> list[psutil.Process]:
        """Those that still run after so many seconds; they are killed."""
        alive: list[psutil.Process] = psutil.wait_procs(self.below, timeout=seconds)[1]
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return alive


def span(run: SmokeRun, stage: str) -> float:
    """Seconds that the processes of a stage run here, without a kill."""
    run.restore(run.before(stage))
    repro = Repro(run.root, stage, run.folder / "span.log")
    start = repro.wait_for_processes()
    while repro.targets("all processes") and repro.wait(0.1) is None:
        pass
    seconds = time.monotonic() - start
    code = repro.wait(DVC_SECONDS)
    assert code == 0, code
    return seconds


def strike(run: SmokeRun, outcome: Outcome, seconds: float, wanted: dict[str, Any]) -> Outcome:
    """Kill at a fraction of `seconds`, then `dvc repro` again; earlier if the stage has ended by then."""
    for _ in range(MAX_TRIES):
        play(run, outcome, seconds, wanted)
        if outcome.killed:
            break
        seconds /= 2
    return outcome


def play(run: SmokeRun, outcome: Outcome, seconds: float, wanted: dict[str, Any]) -> None:
    stage, root, output = outcome.stage, run.root, run.folder / "case.log"
    spec = read_pipeline(run.after)[stage]
    run.restore(run.before(stage))
    output.unlink(missing_ok=True)
    repro = Repro(root, stage, output)
    start = repro.wait_for_processes()
    repro.wait(start + outcome.fraction * seconds - time.monotonic())
    targets = repro.targets(outcome.target)
    for process in targets:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(Signals[outcome.signal])
    died = time.monotonic()
    code = repro.wait(DVC_SECONDS)
    left = repro.left(END_SECONDS)
    if not targets or code == 0:  # too late
        return
    outcome.killed, outcome.seconds_to_end = True, round(time.monotonic() - died, 1)
    outcome.problems = end_problems(outcome, root, output, left)
    outcome.clean = not outcome.problems
    runs = runs_now(root, stage)
    code = Repro(root, stage, output).wait(DVC_SECONDS)
    outcome.survived = code == 0
    if not outcome.survived:
        outcome.problems.append(f"the second dvc repro ended with {code}: {last_lines(output)}")
        return
    files = differing_files(root, run.after, run.before(stage), spec)
    history = differing_history(root, spec, wanted, runs)
    outcome.identical, outcome.history_whole = not files, not history
    outcome.problems += files + history


def end_problems(outcome: Outcome, root: Path, output: Path, left: list[psutil.Process]) -> list[str]:
    problems = [f"{len(left)} processes went on for {END_SECONDS} s"] if left else []
    statuses = list(runs_now(root, outcome.stage).values())
    asked = outcome.signal == "SIGTERM"
    if asked and f"exited with {128 + SIGTERM}" not in output.read_text(encoding="utf-8", errors="replace"):
        problems.append(f"the stage did not exit with {128 + SIGTERM}: {last_lines(output)}")
    if outcome.target != "the stage" or asked:
        wanted = "KILLED" if asked else "FAILED"
        problems += [] if statuses in ([], [wanted]) else [f"MLflow says {statuses}, not {wanted}"]
    return problems


def last_lines(output: Path) -> str:
    return " | ".join(output.read_text(encoding="utf-8", errors="replace").splitlines()[-6:])[-700:]


def plan(seed: int) -> list[Outcome]:
    """What is to be done, stage by stage."""
    rng = random.Random(seed)

    def drawn(stage: str, target: str, signal: Signals) -> Outcome:
        return Outcome(stage, target, signal.name, round(rng.uniform(STARTED, 1.0), 3))

    planned = []
    for stage in STAGES:
        planned += [drawn(stage, target, SIGKILL) for target, count in KILLS.items() for _ in range(count)]
        planned += [drawn(stage, "the stage", SIGTERM) for _ in range(TERMINATIONS)]
    return planned


def totals(outcomes: list[Outcome]) -> dict[str, Any]:
    killed = [it for it in outcomes if it.killed]
    counted: dict[str, Callable[[Outcome], bool]] = {
        "num_clean": lambda it: it.clean,
        "num_survived": lambda it: it.survived,
        "num_identical": lambda it: it.identical,
        "num_histories_whole": lambda it: it.history_whole,
    }
    counts = {name: sum(map(of, killed)) for name, of in counted.items()}
    most = max((it.seconds_to_end or 0.0 for it in killed), default=0.0)
    return {"num_planned": len(outcomes), "num_kills": len(killed), **counts, "max_seconds_to_end": most}


def write_results(outcomes: list[Outcome]) -> None:
    kinds = dict.fromkeys((it.signal, it.target) for it in outcomes)
    by_kind = {
        f"{signal} to {target}": totals([it for it in outcomes if (it.signal, it.target) == (signal, target)])
        for signal, target in kinds
    }
    results = {"seed": SEED, "totals": totals(outcomes), "kinds": by_kind, "kills": [asdict(it) for it in outcomes]}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in", dest="folder", type=Path, help="a folder to keep")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="groundup-chaos-") as temporary:
        run = SmokeRun(arguments.folder or Path(temporary))
        if not run.after.exists():
            copy_working_tree(run.root)
            run_stages(run, **PROCESSES)
        record = run.folder / "outcomes.jsonl"
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        done = [Outcome(**json.loads(line)) for line in lines]
        wanted = histories(run)
        spans: dict[str, float] = {}
        for outcome in plan(SEED)[len(done) :]:
            if outcome.stage not in spans:
                spans[outcome.stage] = span(run, outcome.stage)
            start = time.monotonic()
            strike(run, outcome, spans[outcome.stage], wanted[outcome.stage])
            sys.stdout.write(f"{time.monotonic() - start:4.0f} s  {outcome.line()}\n")
            sys.stdout.flush()
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
            done.append(outcome)
    write_results(done)
    return 0 if all(it.is_good for it in done) else 1


if __name__ == "__main__":
    sys.exit(main())
