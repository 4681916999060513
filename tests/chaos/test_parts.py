"""What an interrupted `make test-chaos` has played is not played again; the remedy for DVC's run cache."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos.case import EMPTY_RUN_CACHE, Outcome
from tests.chaos.plan import Kill
from tests.smoke_run import SmokeRun, environment


def test_the_same_command_plays_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kills = [(number, Kill("sft", "training", "stage", number, 0.0)) for number in range(4)]
    struck: list[int] = []

    def strike(run: SmokeRun, kill: Kill, wanted: object) -> Outcome:
        if len(struck) == 2:
            raise KeyboardInterrupt
        struck.append(kill.number)
        return Outcome("sft", "training", "SIGKILL", "self", str(kill.number), killed=True, steps_lost=kill.number)

    monkeypatch.setattr(chaos, "strike", strike)
    monkeypatch.setattr(chaos, "histories", lambda run: {"sft": {}})
    with pytest.raises(KeyboardInterrupt):
        chaos.play_the_rest(SmokeRun(tmp_path), kills)
    del struck[:]
    outcomes = chaos.play_the_rest(SmokeRun(tmp_path), kills)
    assert struck == [2, 3]
    assert [outcome.steps_lost for outcome in outcomes] == [0, 1, 2, 3]


def test_a_run_in_a_relative_folder_logs_beside_it_though_stages_run_in_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run = SmokeRun(Path(".work/chaos"))
    assert run.log == tmp_path / ".work/chaos/audit.tsv"
    assert run.root == tmp_path / ".work/chaos/copy"


def test_the_remedy_for_an_empty_folder_in_the_run_cache_of_dvc(tmp_path: Path) -> None:
    def dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)

    (tmp_path / "in").write_text("1", encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text("stages: {copy: {cmd: cp in out, deps: [in], outs: [out]}}", encoding="utf-8")
    for arguments in (("init", "--no-scm"), ("repro",)):
        assert dvc(*arguments).returncode == 0
    (entry,) = (tmp_path / ".dvc/cache/runs").glob("*/*/*")
    entry.unlink()  # as if the kill had come between the folder and its file
    (tmp_path / "dvc.lock").unlink()
    (tmp_path / "out").unlink()
    again = dvc("repro")
    assert (again.returncode, EMPTY_RUN_CACHE in again.stderr) == (255, True)
    assert dvc("repro", "--no-run-cache").returncode == 0
    assert (tmp_path / "out").read_text(encoding="utf-8") == "1"
    assert entry.exists()
