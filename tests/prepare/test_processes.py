"""Order, limits and ends of the processes that work on the chunks of prepare."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from groundup.prepare import processes
from groundup.prepare.processes import Processes, available_cores, chunks_of
from groundup.runner.stage import _tells_all

SECONDS = 10  # to wait for what takes one


def work(chunk: int) -> tuple[int, int]:
    time.sleep(0.01 * (chunk % 3))
    return chunk, os.getpid()


def fail(error: Exception, chunk: int) -> int:
    if chunk == 5:
        raise error
    return chunk


def end(chunk: int) -> int:
    if chunk == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return chunk


@pytest.fixture(autouse=True)
def workers_start_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CHUNKS_ALONE", 0)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_results_come_in_order_from_all_processes(number: int) -> None:
    with Processes(number) as shared:
        results = list(shared.map(work, range(500)))
        again = list(shared.map(work, range(5)))
    assert [chunk for chunk, _ in results] == list(range(500))
    assert [chunk for chunk, _ in again] == list(range(5))
    pids = {pid for _, pid in results}
    assert len(pids) == number
    assert (os.getpid() in pids) == (number == 1)


def test_a_small_corpus_starts_no_worker_but_takes_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CHUNKS_ALONE", 8)
    with Processes(4) as shared:
        assert {pid for _, pid in shared.map(work, range(8))} == {os.getpid()}
        assert len(list(shared.map(work, range(9)))) == 9
        assert os.getpid() not in {pid for _, pid in shared.map(work, range(2))}


@pytest.mark.parametrize("number", [1, 2])
def test_errors_come_out_as_they_are_and_want_of_memory_with_a_remedy(number: int) -> None:
    with pytest.raises(ValueError, match="row 5") as caught, Processes(number) as shared:
        list(shared.map(partial(fail, ValueError("row 5 is no use")), range(20)))
    assert number == 1 or _tells_all(caught.value)  # as if raised in this process: the place of the raise matters
    with pytest.raises(OSError, match=r"out of memory: .*max_row_bytes"), Processes(number) as shared:
        list(shared.map(partial(fail, MemoryError()), range(20)))


def test_an_error_does_not_wait_for_what_a_worker_is_at() -> None:
    def chunks() -> Iterator[float]:
        yield 0.0
        yield 60.0
        raise KeyError("odd")

    start = time.monotonic()
    with pytest.raises(KeyError, match="odd"), Processes(2) as shared:
        list(shared.map(time.sleep, chunks()))
    assert time.monotonic() - start < SECONDS


def test_no_more_chunks_are_read_ahead_than_the_bound() -> None:
    read: list[int] = []

    def chunks() -> Iterator[int]:
        while len(read) < 100:
            read.append(len(read))
            yield read[-1]

    with Processes(2) as shared:
        for num_done, _ in enumerate(shared.map(work, chunks())):
            assert len(read) - num_done <= 2 * processes.CHUNKS_PER_WORKER


def test_a_worker_that_was_killed_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ChildProcessError, match=r"(?s)ended early.*free some, then start"), Processes(2) as shared:
        list(shared.map(end, range(20)))


def test_chunks_have_the_length_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CHUNK_CHARACTERS", 5)
    assert list(chunks_of(["abc", "de", "fghijklm", "n"], len)) == [["abc", "de"], ["fghijklm"], ["n"]]
    assert list(chunks_of([], len)) == []


def test_cores_that_are_not_for_this_process_do_not_count() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


LONG = """
import time
from groundup.prepare import processes
from groundup.runner.interruption import listening

def work(chunk):
    time.sleep(0.05)
    return chunk

if __name__ == "__main__":
    processes.CHUNKS_ALONE = 0
    with listening(), processes.Processes(3) as shared:
        for number, _ in enumerate(shared.map(work, range(10_000))):
            if number == 40:
                print("at work", flush=True)
"""


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_no_worker_outlives_its_parent(tmp_path: Path, how: signal.Signals, code: int) -> None:
    (tmp_path / "long.py").write_text(LONG)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "long.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        assert parent.stdout.readline() == "at work\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        (os.killpg if how == signal.SIGINT else os.kill)(parent.pid, how)  # Ctrl-C goes to the whole group
        assert parent.wait(SECONDS) == code
        _, alive = psutil.wait_procs(children, timeout=SECONDS)
        assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)  # not yet noticed by init
        assert "Traceback" not in parent.stderr.read()
