"""The instants of kills are read from a log, which is written by hand here."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from tests.chaos.events import Event, Instant, read_events, windows
from tests.chaos.plan import KILLS, Kill, draw, plan
from tests.smoke_run import STAGES, audit, environment

WORK = ".work/sft/0123456789abcdef"
LOG = [
    ("dvc", "", "subprocess.Popen", "spawn", "python -m stages.sft"),
    ("dvc", "", "open", "write", ".dvc/tmp/rwlock"),  # before the stage has ended: no commit
    ("stage", "sft", "open", "read", "artifacts/base/config.json"),  # hashed, before the imports
    ("stage", "sft", "os.mkdir", "make", f"{WORK}/scratch"),
    ("stage", "sft", "open", "read", "src/groundup/sft/sft.py"),
    ("stage", "sft", "open", "read", "artifacts/base/config.json"),
    ("stage", "sft", "os.mkdir", "make", f"{WORK}/scratch/checkpoint-10"),
    ("deliver", "sft", "open", "write", f"{WORK}/run.json"),
    ("stage", "sft", "open", "write", f"{WORK}/scratch/checkpoint-10/state"),
    ("stage", "sft", "open", "write", f"{WORK}/export/artifacts/sft/config.json"),
    ("stage", "sft", "os.rename", "write", f"{WORK}/finished.json"),
    ("stage", "sft", "open", "write", "artifacts/.sft.publishing/config.json"),
    ("stage", "sft", "open", "read", f"{WORK}/run.json"),
    ("stage", "sft", "os.rename", "write", "metrics/sft.json"),
    ("dvc", "", "open", "read", "artifacts/sft/config.json"),
    ("dvc", "", "open", "write", "dvc.lock"),
    ("dvc", "", "subprocess.Popen", "spawn", "python -m stages.reward"),
    ("dvc", "", "open", "write", "dvc.lock"),
]


def events() -> list[Event]:
    pids = {"dvc": 1, "stage": 2, "deliver": 3}
    return [Event(float(time), pids[role], role, stage, *rest) for time, (role, stage, *rest) in enumerate(LOG)]


def test_windows_follow_the_life_of_a_stage() -> None:
    found = windows(events(), "sft")
    numbers = {window: [instant.number for instant in instants] for window, instants in found.items()}
    assert numbers == {
        "training": [3, 4, 5],
        "checkpoint": [4, 5],
        "export": [6, 7],
        "publish": [8, 9, 10],
        "commit": [3],
    }
    assert [instant.gap for instant in found["training"]] == [1.0, 2.0, 1.0]
    assert {instant.role for instant in found["commit"]} == {"dvc"}


def test_samples_that_are_written_while_training_goes_on_are_no_export() -> None:
    log = events()
    early = Event(5.5, 2, "stage", "sft", "open", "write", f"{WORK}/export/artifacts/reports/sft/samples.md")
    found = windows([*log[:6], early, *log[6:]], "sft")
    assert [instant.number for instant in found["training"]] == [3, 4, 5, 6]
    assert [instant.number for instant in found["export"]] == [7, 8]


def test_a_log_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "audit.tsv"
    path.write_text("1.5\t7\tstage\tsft\topen\twrite\tartifacts/a\tb\n", encoding="utf-8")
    assert read_events(path) == [Event(1.5, 7, "stage", "sft", "open", "write", "artifacts/a\tb")]
    assert read_events(path, skip_bytes=path.stat().st_size) == []


def test_the_plan_covers_every_stage_and_is_the_same_again() -> None:
    found = {stage: windows(events(), "sft") for stage in STAGES}
    kills = plan(found, seed=5)
    assert kills == plan(found, seed=5)
    assert kills != plan(found, seed=6)
    counts = Counter(kill.stage for kill in kills if kill.signal == SIGKILL)
    assert min(counts.values()) >= 5
    assert counts.total() >= 50
    assert {kill.window for kill in kills} == set(KILLS)
    assert {(kill.signal, kill.target) for kill in kills} == {
        (SIGKILL, "self"),
        (SIGKILL, "dvc"),
        (SIGTERM, "self"),
        (SIGTERM, "group"),
        (SIGINT, "group"),
    }


def test_a_kill_in_training_is_uniform_in_time() -> None:
    found = {"training": [Instant("stage", 1, 1.0), Instant("stage", 2, 3.0)]}
    rng = random.Random(0)
    kills = [draw(rng, "sft", "checkpoint", found) for _ in range(2000)]  # falls back to training
    late = [kill for kill in kills if kill.number == 2]
    assert len(late) / len(kills) == pytest.approx(0.75, abs=0.03)
    assert all(0 <= kill.delay <= 3.0 for kill in late)
    assert sum(kill.delay for kill in late) / len(late) == pytest.approx(1.5, abs=0.1)


PROGRAM = """
import os, time
for number in range(3):
    open(f"metrics/{number}", "w").close()
    open(f"elsewhere-{number}", "w").close()
time.sleep(20)
"""


@pytest.mark.parametrize(("number", "delay", "left"), [(1, 0.0, []), (3, 0.0, ["0", "1"]), (3, 0.2, ["0", "1", "2"])])
def test_the_signal_strikes_before_or_after_the_access(
    tmp_path: Path, number: int, delay: float, left: list[str]
) -> None:
    for folder in ("stages", "metrics"):
        (tmp_path / folder).mkdir()
    (tmp_path / "stages/one.py").write_text(PROGRAM, encoding="utf-8")
    log = tmp_path.parent / f"{tmp_path.name}.tsv"
    kill = Kill("one", "training", "stage", number, delay)
    extra = {"DVC_STAGE": "dvc.yaml:one", "GROUNDUP_DVC_PID": "1", "GROUNDUP_KILL": kill.variable}
    command = [sys.executable, "-m", "stages.one"]
    result = subprocess.run(command, cwd=tmp_path, env=environment(**audit(log), **extra), check=False, timeout=30)
    assert result.returncode == -SIGKILL
    assert sorted(path.name for path in (tmp_path / "metrics").iterdir()) == left
    assert [event.path for event in read_events(log) if event.mode == "kill"] == [f"{delay:.6f} 9 self"]


def test_another_stage_is_not_struck(tmp_path: Path) -> None:
    for folder in ("stages", "metrics"):
        (tmp_path / folder).mkdir()
    (tmp_path / "stages/two.py").write_text(PROGRAM.replace("20", "0"), encoding="utf-8")
    kill = Kill("one", "training", "stage", 1, 0.0)
    extra = {"DVC_STAGE": "dvc.yaml:two", "GROUNDUP_DVC_PID": "1", "GROUNDUP_KILL": kill.variable}
    env = environment(**audit(tmp_path / "audit.tsv"), **extra)
    subprocess.run([sys.executable, "-m", "stages.two"], cwd=tmp_path, env=env, check=True, timeout=30)
