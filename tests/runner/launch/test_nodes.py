"""`groundup nodes`, twice on this machine: both have processes of each stage, and end together."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from groundup.runner.launch.jobs import PYTHON
from tests.runner.conftest import work_dirs
from tests.runner.launch.test_processes import kill, seen, wait_for_checkpoint, write_stage

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("no_deliverer")]

STAGE = f"{PYTHON} -m stages.prepare"
Start = Callable[[int, str], "subprocess.Popen[str]"]


def free_ports() -> int:
    """The first of two that are free."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


@pytest.fixture
def start(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """A node that would run a shell's line if it were the first one."""
    monkeypatch.setenv("GROUNDUP_TIMEOUT", "60")
    (root / "launch.yaml").write_text("nodes: 2\nlauncher: nodes\n")
    port, started = str(free_ports()), []

    def node(number: int, line: str = STAGE) -> subprocess.Popen[str]:
        program = [PYTHON, "-c", "from groundup.app.cli.main import app; app()"]
        command = [
            *program,
            "nodes",
            "--node",
            str(number),
            "--head",
            "127.0.0.1",
            "--port",
            port,
            "--",
            "sh",
            "-c",
            line,
        ]
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield node
    for process in started:
        kill(below(process) if process.poll() is None else ())
        process.kill()
        process.communicate()


def said(process: "subprocess.Popen[str]") -> str:
    """In one line, once it has ended."""
    return " ".join(process.communicate(timeout=120)[0].split())


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_both_have_processes_of_each_stage(root: Path, start: Start) -> None:
    write_stage(root)
    other = start(1, "")
    first = start(0, f"{STAGE} && echo new > data/a.txt && {STAGE}")
    assert first.wait(120) == 0
    assert other.wait(30) == 0
    assert seen(root) == ["2 4 6 8"] * 4
    assert len(work_dirs(root)) == 2
    assert (root / "artifacts/text/a.txt").read_text() == "a"


def test_a_process_that_fails_on_the_other_node_ends_all(root: Path, start: Start) -> None:
    write_stage(root, "fail()")
    first, other = start(0, STAGE), start(1, "")
    assert "no such row (process 1 of 2, counted from 0)" in said(first)
    assert first.returncode == 1
    assert other.wait(30) == 0  # as a node: what failed is said by the stage
    assert not (root / "artifacts").exists()


@pytest.mark.parametrize(
    ("node", "number"), [(0, signal.SIGTERM), (0, signal.SIGINT), (1, signal.SIGTERM), (1, signal.SIGKILL)]
)
def test_all_end_at_the_same_checkpoint_with_a_node(
    root: Path, start: Start, node: int, number: signal.Signals
) -> None:
    """The shell, as dvc, passes no signal on."""
    write_stage(root, pause=1.0)
    nodes = [start(0, f"{STAGE}; exit $?"), start(1, "")]
    wait_for_checkpoint(root)
    processes = [process for it in nodes for process in below(it)]
    nodes[node].send_signal(number)
    text = said(nodes[0])
    assert nodes[0].returncode == 128 + (number if node == 0 else signal.SIGTERM), text
    nodes[1].wait(30)
    first, second = seen(root)
    assert first == second
    assert not psutil.wait_procs(processes, timeout=30)[1]
    again = [start(0, STAGE), start(1, "")]
    assert [process.wait(120) for process in again] == [0, 0]
    assert [it.split()[-1] for it in seen(root)] == ["8", "8"]


def test_without_the_first_node_the_others_end(root: Path, start: Start) -> None:
    write_stage(root, pause=1.0)
    first, other = start(0, STAGE), start(1, "")
    wait_for_checkpoint(root)
    processes = below(other)
    first.kill()
    assert "the first node, 127.0.0.1:" in said(other)
    assert other.returncode == 1
    assert not psutil.wait_procs(processes, timeout=30)[1]


def test_too_few_nodes_are_said(root: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDUP_TIMEOUT", "3")
    write_stage(root)
    first = start(0, STAGE)
    assert "launch.yaml says nodes: 2, but 1 run `groundup nodes`: start it on each, or lower nodes" in said(first)
    assert first.returncode == 1


def test_a_stage_alone_says_what_to_start(root: Path) -> None:
    (root / "launch.yaml").write_text("nodes: 2\nlauncher: nodes\n")
    write_stage(root)
    ran = subprocess.run(STAGE.split(), cwd=root, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "start `groundup nodes ... dvc repro` on every node, not `dvc repro`" in ran.stderr
