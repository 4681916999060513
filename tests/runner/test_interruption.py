"""Signals and the end of dvc."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from groundup.runner.interruption import SIGNALS, Interruption, Terminated, end_with_dvc

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    listening = Interruption()
    listening.listen()
    yield listening
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_outside_a_loop_a_signal_ends_at_once(interruption: Interruption, number: signal.Signals, code: int) -> None:
    with pytest.raises(Terminated) as ended:
        os.kill(os.getpid(), number)
    assert ended.value.code == code


def test_in_a_loop_it_waits_until_the_loop_ends(interruption: Interruption) -> None:
    steps = []
    raised = pytest.raises(Terminated)
    with raised as ended, interruption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal_number == signal.SIGINT
        steps.append("the step was finished")
    assert steps
    assert ended.value.code == 130


def test_a_second_signal_ends_at_once(interruption: Interruption) -> None:
    raised = pytest.raises(Terminated)
    with raised, interruption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it continued")


def test_a_library_that_ends_itself_without_a_code_does_not_hide_the_signal(interruption: Interruption) -> None:
    raised = pytest.raises(Terminated)
    with raised as ended, interruption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        raise SystemExit
    assert ended.value.code == 143


def test_an_error_after_the_signal_stays_an_error(interruption: Interruption) -> None:
    raised = pytest.raises(ZeroDivisionError)
    with raised, interruption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ZeroDivisionError


def test_without_a_signal_nothing_ends(interruption: Interruption) -> None:
    with interruption.deferred():
        pass
    raised = pytest.raises(SystemExit)
    with raised as ended, interruption.deferred():
        raise SystemExit(3)
    assert ended.value.code == 3


STAGE = """
import sys, time
from pathlib import Path
from groundup.runner.interruption import Interruption, end_with_dvc
interruption = Interruption()
interruption.listen()
end_with_dvc(interruption)
folder = Path(sys.argv[1])
(folder / "stage").write_text(str(__import__("os").getpid()))
try:
    if sys.argv[2] == "trains":
        with interruption.deferred():
            while interruption.signal_number is None:
                time.sleep(0.1)
            time.sleep(2)  # the step that is under way, longer than the watcher looks away
            (folder / "checkpoint").write_text("saved")
    time.sleep(60)
except SystemExit as error:
    (folder / "code").write_text(str(error.code))
    raise
"""
DVC = """
import subprocess, sys
subprocess.run(sys.argv[1:])
"""


def wait_for(path: Path) -> str:
    for _ in range(300):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.parametrize("name", ["dvc", "other"])
@pytest.mark.parametrize("shell", [[], ["/bin/sh", "-c", '"$@"; true', "sh"]], ids=["direct", "through a shell"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_the_dvc_that_started_it(
    tmp_path: Path, name: str, shell: list[str], number: signal.Signals
) -> None:
    """Nor with a process of another name."""
    for file, text in ((name, DVC), ("stage.py", STAGE)):
        (tmp_path / file).write_text(text)
    command = [
        sys.executable,
        str(tmp_path / name),
        *shell,
        sys.executable,
        str(tmp_path / "stage.py"),
        str(tmp_path),
        "waits",
    ]
    parent = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(SRC)})
    stage = psutil.Process(int(wait_for(tmp_path / "stage")))
    try:
        parent.send_signal(number)
        parent.wait(10)
        if name == "dvc":
            assert wait_for(tmp_path / "code") == "143"
        else:
            time.sleep(1.5)
            assert stage.is_running()
            assert not (tmp_path / "code").exists()
    finally:
        if stage.is_running():
            stage.kill()


def test_a_signal_to_the_whole_process_group_leaves_time_for_a_checkpoint(tmp_path: Path) -> None:
    """As `timeout`, `docker stop` and batch systems send it: dvc ends at once, which is not a second signal."""
    for file, text in (("dvc", DVC), ("stage.py", STAGE)):
        (tmp_path / file).write_text(text)
    command = [sys.executable, str(tmp_path / "dvc"), sys.executable, str(tmp_path / "stage.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    parent = subprocess.Popen([*command, "trains"], env=environment, start_new_session=True)
    wait_for(tmp_path / "stage")
    time.sleep(0.5)
    os.killpg(parent.pid, signal.SIGTERM)
    parent.wait(10)
    assert wait_for(tmp_path / "code") == "143"
    assert (tmp_path / "checkpoint").exists()


def test_outside_a_loop_too_the_signal_is_noted(interruption: Interruption) -> None:
    """So that the watcher of dvc does not disturb an end in progress."""
    with pytest.raises(Terminated):
        interruption.receive(signal.SIGTERM, None)
    assert interruption.signal_number == signal.SIGTERM


@pytest.mark.parametrize("stage", ["dvc.yaml:prepare", None])
def test_a_dvc_that_ended_while_the_stage_was_starting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stage: str | None
) -> None:
    monkeypatch.setattr(psutil.Process, "parents", lambda process: [])
    if stage is None:
        monkeypatch.delenv("DVC_STAGE", raising=False)
        end_with_dvc(Interruption())
        assert caplog.messages == []
        return
    monkeypatch.setenv("DVC_STAGE", stage)
    with pytest.raises(Terminated) as ended:
        end_with_dvc(Interruption())
    assert ended.value.code == 143
    assert "is set, but dvc has ended, so this stage does not start; the next `dvc repro` runs it" in caplog.text
