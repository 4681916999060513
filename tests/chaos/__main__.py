"""`make test-chaos`: play every planned kill, report each, and write the outcomes to docs/reliability.json.

--in FOLDER keeps the uninterrupted run and each outcome: after an interruption the same command plays the rest.
--only NUMBERS plays these kills of the plan again and writes nothing.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median

from tests.chaos.case import Outcome, strike
from tests.chaos.compare import histories
from tests.chaos.events import read_events, windows
from tests.chaos.measure import checkpoint_interval
from tests.chaos.plan import Kill, plan
from tests.conftest import ROOT, copy_working_tree
from tests.presets import preset, preset_text
from tests.smoke_run import STAGES, SmokeRun, run_stages

SEED = 20
RESULTS = ROOT / "docs/reliability.json"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def play(run: SmokeRun, kills: Iterable[tuple[int, Kill]]) -> Iterator[tuple[int, Outcome]]:
    """Each numbered kill and its outcome, one after the other."""
    wanted = histories(run)
    for number, kill in kills:
        start = time.monotonic()
        outcome = strike(run, kill, wanted[kill.stage])
        say(f"{number:3} {time.monotonic() - start:4.0f} s  {outcome.line()}")
        yield number, outcome


def play_the_rest(run: SmokeRun, kills: list[tuple[int, Kill]]) -> list[Outcome]:
    """The outcomes of all kills; those that an earlier start has played are read from the folder of the run."""
    record = run.folder / "outcomes.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    done = {number: Outcome(**fields) for number, fields in map(json.loads, lines)}
    for number, outcome in play(run, [(number, kill) for number, kill in kills if number not in done]):
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps([number, asdict(outcome)]) + "\n")
        done[number] = outcome
    return [done[number] for number, _ in kills]


def totals(outcomes: list[Outcome]) -> dict[str, int | float]:
    killed = [outcome for outcome in outcomes if outcome.killed]
    finished = [outcome for outcome in killed if outcome.window in ("publish", "commit")]
    lost = [outcome.seconds_lost for outcome in killed if outcome.seconds_lost is not None]
    return {
        "num_planned": len(outcomes),
        "num_kills": len(killed),
        "num_survived": sum(outcome.survived and outcome.remedy is None for outcome in killed),
        "num_survived_with_remedy": sum(outcome.survived and outcome.remedy is not None for outcome in killed),
        "num_identical": sum(outcome.identical for outcome in killed),
        "num_histories_whole": sum(outcome.history_whole for outcome in killed),
        "num_after_finish": len(finished),
        "num_trained_again_after_finish": sum(outcome.trained_again for outcome in finished),
        "num_without_problem": sum(outcome.is_good for outcome in killed),
        "median_seconds_lost": round(median(lost), 2) if lost else 0.0,
        "max_seconds_lost": max(lost, default=0.0),
        "max_steps_lost": max((outcome.steps_lost or 0 for outcome in killed), default=0),
    }


def changed_since(run: SmokeRun) -> list[str]:
    """Differences of code and params from those of the uninterrupted run."""
    then = run.before(STAGES[0])
    paths = {"dvc.yaml"} | {
        path.relative_to(root).as_posix()
        for root in (ROOT, then)
        for folder in ("src", "stages")
        for path in (root / folder).rglob("*")
        if path.suffix in (".py", ".j2", ".jsonl")
    }
    changed = {path for path in paths if content(ROOT / path) != content(then / path)}
    if preset_text("smoke").encode() != content(then / "params.yaml"):
        changed.add("params.yaml")
    return sorted(changed)


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def write_results(outcomes: list[Outcome]) -> None:
    results = {
        "seed": SEED,
        "totals": totals(outcomes),
        "stages": {
            stage: {"checkpoint_every": checkpoint_interval(preset("smoke"), stage)}
            | totals([outcome for outcome in outcomes if outcome.stage == stage])
            for stage in STAGES
        },
        "kills": [asdict(outcome) for outcome in outcomes],
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", type=int, metavar="NUMBER", help="these kills of the plan alone")
    parser.add_argument(
        "--in", dest="folder", type=Path, help="a folder to keep: what an earlier start of this code played counts"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="groundup-chaos-") as temporary:
        folder = arguments.folder or Path(temporary)
        run = SmokeRun(folder)
        if not run.after.exists():
            say("the uninterrupted run comes first")
            copy_working_tree(run.root)
            run_stages(run)
        elif changed := changed_since(run):
            parser.error(f"the run in {folder} is of other code, {', '.join(changed)}: delete it or name another")
        events = read_events(run.log)
        kills = list(enumerate(plan({stage: windows(events, stage) for stage in STAGES}, SEED)))
        say(f"{len(kills)} kills, seed {SEED}")
        if arguments.only is None:
            outcomes = play_the_rest(run, kills)
        else:
            outcomes = [outcome for _, outcome in play(run, [kills[number] for number in arguments.only])]
    say(json.dumps(totals(outcomes), indent=2))
    if arguments.only is None:
        write_results(outcomes)
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
