"""Work dirs of earlier runs: unfinished work, finished results that DVC has not recorded, leftovers."""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundup.runner import stage as runner
from groundup.runner.context import StageContext
from groundup.runner.fingerprint import Fingerprint, InputsChangedError, take_fingerprint
from groundup.runner.launch.jobs import PYTHON
from groundup.runner.launch.settings import read_launch
from groundup.runner.lock import locked
from groundup.runner.pipeline import read_pipeline
from groundup.runner.workdir import FINISHED, difference, note_segment, read_finished, record_finished, sweep
from tests.conftest import ROOT
from tests.runner.conftest import run_note, work_dirs, write_dvc_lock, write_outs

pytestmark = pytest.mark.usefixtures("no_deliverer")


def stop_half_way(stage: StageContext) -> dict[str, Any]:
    (stage.work / "checkpoint").touch()
    raise ZeroDivisionError


def start(root: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        runner._run(root, "prepare", stop_half_way)


def test_going_on_is_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    start(root)
    assert "prepare:" not in caplog.text
    start(root)
    (line,) = [message for message in caplog.messages if message.startswith("prepare:")]
    assert line == f"prepare: resuming the unfinished work in {work_dirs(root)[0]}"


def test_starting_afresh_names_what_changed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    start(root)
    (before,) = work_dirs(root)
    (root / "data/a.txt").write_text("other")
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("seed: 17", "seed: 18"))
    start(root)
    (line,) = [message for message in caplog.messages if message.startswith("prepare:")]
    assert line == (
        "prepare: starting from scratch, since prepare.seed is 18, not 17, and data changed; the unfinished work "
        f"is in {before} (`groundup clean` removes it)"
    )


def test_an_early_end_leaves_nothing_to_speak_of(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail_at_once(stage: StageContext) -> dict[str, Any]:
        raise ZeroDivisionError

    caplog.set_level("INFO")
    with pytest.raises(ZeroDivisionError):
        runner._run(root, "prepare", fail_at_once)
    (root / "data/a.txt").write_text("other")
    start(root)
    assert "from scratch" not in caplog.text


def test_every_part_of_a_fingerprint_can_be_named() -> None:
    parts = {"params": {"sft": {"seed": 1, "lora": None}}, "digests": {"src/a.py": "1"}, "versions": {"torch": "2.12"}}
    before = parts | {"stage": "sft", "device": "cpu"}
    now = Fingerprint(
        stage="sft",
        params={"sft": {"seed": 1, "lora": {"rank": 4}}},
        digests={"src/b.py": "1"},
        versions={"torch": "2.13"},
        device="cuda",
    )
    assert difference(before, now) == (
        "sft.lora.rank is 4, not None, and src/a.py changed and src/b.py changed and torch is 2.13, not 2.12, "
        "and the device is cuda, not cpu"
    )


class Killed(BaseException):
    pass


def never_called(stage: StageContext) -> dict[str, Any]:
    raise AssertionError("it trained again")


PUBLISHED = ["artifacts/text", "artifacts/reports/prepare", "metrics/prepare.csv"]
# (function replaced by one that kills, on which call of it, number of PUBLISHED files by then)
WINDOWS = {
    "before the record of the run": (runner, "describe_outs", 1, 0),
    "before the note of the run": (runner, "note_run", 1, 0),
    "before the first out": (os, "replace", 4, 0),  # after the curve, the metrics and the note
    "between the outs": (os, "replace", 5, 1),
    "before the curve": (os, "replace", 6, 2),
    "before the metrics file": (os, "replace", 7, 3),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_a_kill_after_training_does_not_train_again(root: Path, monkeypatch: pytest.MonkeyPatch, window: str) -> None:
    module, name, fatal_call, num_published = WINDOWS[window]
    original = getattr(module, name)
    num_calls = 0

    def kill(*arguments: Any, **named: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        if num_calls == fatal_call:
            raise Killed
        return original(*arguments, **named)

    def record_and_arm(*arguments: Any) -> None:
        record_finished(*arguments)
        monkeypatch.setattr(module, name, kill)

    monkeypatch.setattr(runner, "record_finished", record_and_arm)
    with pytest.raises(Killed):
        runner._run(root, "prepare", write_outs)
    monkeypatch.setattr(module, name, original)
    assert [path for path in PUBLISHED if (root / path).exists()] == PUBLISHED[:num_published]
    assert not (root / "metrics/prepare.json").exists()
    runner._run(root, "prepare", never_called)
    assert (root / "artifacts/text/train.txt").read_text() == "hello"
    assert (root / "metrics/prepare.csv").read_text() == "step,loss\n1,1\n2,0.5\n"
    assert json.loads((root / "artifacts/reports/prepare/metrics.json").read_text())["num_documents"] == 1
    assert (root / "metrics/prepare.json").exists()
    hidden = [path for folder in ("artifacts", "metrics") for path in (root / folder).rglob(".*")]
    assert hidden == []


def test_a_finished_result_that_is_not_whole_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A power cut may lose data that was not yet on the disk."""
    (tmp_path / "export/artifacts").mkdir(parents=True)
    for out in ("a", "b"):
        (tmp_path / f"export/artifacts/{out}").write_text(out)
    record_finished(tmp_path, ("artifacts/a", "artifacts/b"), {"loss": 1.0})
    assert read_finished(tmp_path) == {"loss": 1.0}
    (tmp_path / "export/artifacts/b").write_text("")
    assert read_finished(tmp_path) is None
    assert re.search(r"is damaged \(artifacts/b\), so the stage runs again", caplog.text)
    assert read_finished(tmp_path) is None


@pytest.mark.parametrize("changed", ["prepare.seed", "stages/prepare.py"])
def test_bytes_that_dvc_knows_from_other_inputs_are_not_yet_recorded(root: Path, changed: str) -> None:
    """A comment changed, the same bytes resulted, and the kill came before DVC wrote dvc.lock."""
    runner._run(root, "prepare", write_outs)
    write_dvc_lock(root)
    if changed == "stages/prepare.py":
        (root / changed).write_text("pass  # a comment")
    else:
        text = (root / "params.yaml").read_text()
        (root / "params.yaml").write_text(text.replace("seed: 17", "seed: 18"))

    def same_bytes(stage: StageContext) -> dict[str, Any]:
        stage.out("artifacts/text").mkdir()
        (stage.out("artifacts/text") / "train.txt").write_text("hello")
        stage.out("artifacts/reports/prepare").mkdir()
        (stage.out("artifacts/reports/prepare") / "report.md").write_text("# report")
        return {}

    runner._run(root, "prepare", same_bytes)
    runner._run(root, "prepare", never_called)


HOLDER = """
import time
from groundup.runner.stage import run_stage
from tests.runner.conftest import write_outs

def main(stage):
    (stage.root / "held").touch()
    while not (stage.root / "go").exists():
        time.sleep(0.1)
    return write_outs(stage)

if __name__ == "__main__":
    run_stage("prepare", main)
"""


@contextmanager
def held(root: Path, caplog: pytest.LogCaptureFixture, meanwhile: Callable[[], Any]) -> Iterator[int]:
    """Another process makes prepare's result, and is done some time after this one is said to wait; its id."""
    (root / "stages/prepare.py").write_text(HOLDER, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(root), str(ROOT)])}
    holder = subprocess.Popen([PYTHON, str(root / "stages/prepare.py")], cwd=root, env=environment)

    def let_go() -> None:
        end = time.monotonic() + 60
        while "waits for its result" not in caplog.text and time.monotonic() < end:
            time.sleep(0.05)
        meanwhile()
        (root / "go").touch()

    try:
        while not (root / "held").exists():
            assert holder.poll() is None
            time.sleep(0.05)
        caplog.set_level("INFO")
        threading.Thread(target=let_go, daemon=True).start()
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


def test_what_another_process_makes_of_the_same_inputs_is_waited_for_and_published(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two experiments of a queue that need the same pretrain. How long it took stays with the one that made it."""
    monkeypatch.setattr("groundup.runner.clock.process_seconds", lambda: 9999.0)  # of this process
    with held(root, caplog, meanwhile=bool) as holder:
        runner._run(root, "prepare", never_called)
    said = [message for message in caplog.messages if "waits for its result" in message]
    assert len(said) == 1
    assert said[0].startswith(f"process {holder}, since ")
    assert (root / "artifacts/text/train.txt").read_text() == "hello"
    assert run_note(root)["stage_seconds"] < 9999.0


def test_an_input_that_changes_during_the_wait_ends_it(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    changed = pytest.raises(InputsChangedError, match="prepare: data changed while it waited for another process")
    with changed, held(root, caplog, meanwhile=lambda: (root / "data/a.txt").write_text("bye")):
        runner._run(root, "prepare", never_called)


def test_a_finished_result_that_another_experiment_holds_is_left_to_it(root: Path) -> None:
    runner._run(root, "prepare", write_outs)
    write_dvc_lock(root)
    (work,) = work_dirs(root)
    spec = read_pipeline(root)["prepare"]
    now = take_fingerprint(root, spec, {"prepare.seed": 17}, "cpu")
    with locked(work):
        sweep(root, work.parent, spec, now)
        assert work_dirs(root) == [work]
    sweep(root, work.parent, spec, now)
    assert work not in work_dirs(root)


def test_the_tags_say_in_how_many_processes_which_steps_were_taken(tmp_path: Path) -> None:
    def tags(step: int, processes: int, strategy: str = "ddp", rollouts: Sequence[str] = ()) -> tuple[str, str]:
        launch = replace(read_launch(tmp_path), processes=processes, strategy=strategy, rollouts=rollouts)
        found = note_segment(tmp_path, step, launch)
        assert found.keys() == {"processes", "reproducible"}
        return found["processes"], found["reproducible"]

    mixed = "not byte for byte"
    assert tags(0, 2) == ("2 by ddp from step 1", "yes")
    assert tags(6, 2) == ("2 by ddp from step 1", "yes")
    assert tags(6, 1) == tags(8, 1) == ("2 by ddp from step 1, 1 from step 7", mixed)
    # The newest checkpoint was damaged, so steps 7 and 8 are taken again.
    again = ("2 by ddp from step 1, 2 by fsdp2 from step 7", mixed)
    assert tags(6, 2, "fsdp2") == again
    (tmp_path / FINISHED).touch()
    assert tags(8, 1) == again
    assert tags(0, 1) == again  # its checkpoints are gone
    (tmp_path / FINISHED).unlink()
    assert tags(0, 1) == ("1 from step 1", "yes")
    # A server makes batches of what comes together.
    assert tags(0, 1, rollouts=["http://a"]) == ("1, rollouts by servers from step 1", mixed)
