"""A stage's processes on machines that are there already, each with a `groundup nodes`: pods, or a SkyPilot cluster.

The first node runs the stages. For each of their jobs it and the others, which wait for jobs, start a torchrun.
"""

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from groundup.runner.environment import LAUNCH_PREFIX, NODES_STORE, OF_RANKS
from groundup.runner.interruption import POLL_SECONDS, Interruption
from groundup.runner.launch.jobs import END_SECONDS, JobError, Torchrun, meeting, torchrun
from groundup.runner.launch.settings import Launch

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

logger = logging.getLogger(__name__)

JOINED, NUM_JOBS, OVER = "joined", "jobs", "over"  # keys of the store
LEAVE_SECONDS = 10.0  # that the others have to end after the first node


class NodesError(JobError):
    """The nodes do not find each other."""


def node_command(launch: Launch, stage: str, endpoint: str, number: str) -> list[str]:
    """`endpoint`: the address and port of the first node at which the torchruns of job `number` meet."""
    return torchrun(launch, stage, [*meeting(launch), "--rdzv-endpoint", endpoint, "--rdzv-id", number])


def connect(address: str, seconds: float, *, is_first: bool = False) -> "TCPStore":
    """To the store that the first node keeps at HOST:PORT, once it is there; NodesError after so many seconds."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # 2 s, so only where there are nodes

    host, _, port = address.rpartition(":")
    try:
        return TCPStore(
            host, int(port), is_master=is_first, timeout=timedelta(seconds=seconds), wait_for_workers=False
        )
    except RuntimeError as error:
        raise NodesError(f"the first node does not answer at {address} within {seconds:g} s: {error}") from error


def endpoint_of(address: str) -> str:
    """The port after the store's."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + 1}"


class NodesJob(Torchrun):
    """All nodes have to see the checkout at the same path, its work dirs included."""

    def __init__(self, launch: Launch, stage: str, root: Path, folder: Path, environment: dict[str, str]) -> None:
        if NODES_STORE not in environment:
            raise JobError("launcher is nodes: start `groundup nodes ... dvc repro` on every node, not `dvc repro`")
        address = environment[NODES_STORE]
        self._store = connect(address, launch.timeout)
        self._wait_for_others(launch)
        self._number = str(self._store.add(NUM_JOBS, 1))
        job = {
            "stage": stage,
            "root": str(root),
            "launch": asdict(launch),
            "environment": {it: environment[it] for it in OF_RANKS if it in environment},
        }
        self._store.set(f"job-{self._number}", json.dumps(job))
        super().__init__(node_command(launch, stage, endpoint_of(address), self._number), root, environment)

    def _wait_for_others(self, launch: Launch) -> None:
        deadline = time.monotonic() + launch.timeout
        while (found := 1 + self._store.add(JOINED, 0)) < launch.nodes and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if found < launch.nodes:
            raise JobError(
                f"launch.yaml says nodes: {launch.nodes}, but {found} run `groundup nodes`: start it on each, or "
                "lower nodes"
            )

    def kill(self) -> None:
        super().kill()
        with suppress(RuntimeError):  # the first node's `groundup nodes` was killed
            self._store.set(f"ended-{self._number}", "")


def lead(address: str, command: Sequence[str], root: Path, interruption: Interruption) -> int:
    """On the first node: run a command whose stages have all nodes; its exit code. A signal ends its stages first."""
    store = connect(address, LEAVE_SECONDS, is_first=True)
    environment = os.environ | {NODES_STORE: address, f"{LAUNCH_PREFIX}LAUNCHER": "nodes"}
    process = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True)
    try:
        with interruption.deferred():
            while process.poll() is None:
                if interruption.signal_number is not None:
                    _end(process)
                    break
                time.sleep(POLL_SECONDS)
        return process.returncode
    finally:
        process.kill()
        store.set(OVER, "")
        deadline = time.monotonic() + LEAVE_SECONDS
        while store.add(JOINED, 0) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to all of its group, since dvc passes none on; wait until the stages have saved a checkpoint."""
    below = psutil.Process(process.pid).children(recursive=True)
    group = [it for it in below if _group(it) == process.pid]
    os.killpg(process.pid, signal.SIGTERM)
    psutil.wait_procs(group, timeout=END_SECONDS)


def _group(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return 0


def follow(node: int, address: str, seconds: float, interruption: Interruption) -> None:
    """On any other node: start its processes of each job that it has a part in, until the first one's command is over.

    A signal is passed on to them: all processes of the job save a checkpoint and end, and so does the command.
    """
    store = connect(address, seconds)
    store.add(JOINED, 1)
    number = 0
    try:
        while _next(store, number + 1):
            number += 1
            if not store.check([f"ended-{number}"]):
                _work(store, str(number), node, address, interruption)
    except RuntimeError as error:  # of the store
        raise NodesError(f"the first node, {address}, is gone: {error}") from error
    finally:
        with suppress(RuntimeError):
            store.add(JOINED, -1)


def _next(store: "TCPStore", number: int) -> bool:
    """Wait for a job; False if none will come."""
    while not store.check([f"job-{number}"]):
        if store.check([OVER]):
            return False
        time.sleep(POLL_SECONDS)
    return True


def _work(store: "TCPStore", number: str, node: int, address: str, interruption: Interruption) -> None:
    job = json.loads(store.get(f"job-{number}"))
    launch = Launch(**job["launch"])
    if node >= launch.nodes:
        return
    logger.info("%s: %d processes here", job["stage"], launch.processes)
    command = node_command(launch, job["stage"], endpoint_of(address), number)
    with interruption.deferred():
        processes = Torchrun(command, Path(job["root"]), os.environ | job["environment"])
        told, deadline = False, float("inf")
        try:
            while processes.poll(POLL_SECONDS) is None and time.monotonic() < deadline:
                if interruption.signal_number is not None and not told:
                    processes.end()
                    told = True
                if deadline == float("inf") and store.check([f"ended-{number}"]):
                    deadline = time.monotonic() + LEAVE_SECONDS
        finally:
            processes.kill()
