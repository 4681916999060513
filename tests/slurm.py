"""A Slurm of two nodes on this machine, as root on Debian: the programs are installed if they are missing."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.debian import install

CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
SlurmUser=root
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=5
SlurmctldPidFile={folder}/ctld.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why there can be no Slurm here; empty once its programs are installed."""
    if os.geteuid():
        return "only root can start a Slurm"
    if not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        return install("slurm-wlm", "munge")
    return ""


@contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """Its slurm.conf, while it runs."""
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    conf = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    conf.write_text(CONF.format(host=host, folder=folder, port=ports[0], port1=ports[1], port2=ports[2]))
    environment = os.environ | {"SLURM_CONF": str(conf)}
    started = {_start_munge(folder)}
    (folder / "state").mkdir()
    try:
        subprocess.run(["slurmctld"], env=environment, check=True)
        for node in ("n1", "n2"):
            subprocess.run(["slurmd", "-N", node], env=environment, check=True)
        deadline = time.monotonic() + 60
        while _idle(environment) < 2:
            assert time.monotonic() < deadline, (folder / "ctld.log").read_text()[-2000:]
            time.sleep(0.5)
        yield conf
    finally:
        subprocess.run(["scancel", "--me"], env=environment, check=False)
        started |= {int(file.read_text()) for file in folder.glob("*.pid")}
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _idle(environment: dict[str, str]) -> int:
    found = subprocess.run(
        ["sinfo", "-h", "-N", "-t", "idle"], env=environment, capture_output=True, text=True, check=False
    )
    return len(found.stdout.splitlines())


def _start_munge(folder: Path) -> int:
    """The pid of a munged of this cluster's own key. Its socket is the default one, which Slurm looks for."""
    key, pid = folder / "munge.key", folder / "munged.pid"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    Path("/run/munge").mkdir(exist_ok=True)
    Path("/run/munge").chmod(0o755)
    files = {"--key-file": key, "--pid-file": pid, "--log-file": folder / "munged.log", "--seed-file": folder / "seed"}
    options = [f"{name}={path}" for name, path in files.items()]
    subprocess.run(["munged", "--force", *options], check=True, capture_output=True)
    return int(pid.read_text())
