"""Put first on PYTHONPATH: every process logs its accesses to files below its start folder.

One line per access in GROUNDUP_AUDIT_LOG, tab-separated: time, pid, role, stage, event, mode, path.
Roles: stage, deliver, dvc, other. Modes: read, write (change or delete), list (a folder's names), make (a folder that
may exist already); dvc also notes which command it starts (spawn), and the log says when a signal was set off (kill).

GROUNDUP_KILL="ROLE STAGE NUMBER DELAY SIGNAL TARGET" sends SIGNAL to TARGET (self, dvc, or group: dvc's processes),
DELAY seconds after the NUMBERth access of that process to what the pipeline makes; dvc counts from the start of STAGE.
"""

import os
import sys
import time

LOG = os.environ.get("GROUNDUP_AUDIT_LOG")
KILL = os.environ.get("GROUNDUP_KILL")
STAGE = os.environ.get("DVC_STAGE", "").split(":")[-1]
ROOT = os.getcwd() + os.sep
COUNTED = (".work/", "artifacts/", "metrics/", ".dvc/", "dvc.lock")

# Event -> modes of its first arguments (docs.python.org/3/library/audit_events.html). os.replace is os.rename.
MODES = {
    "os.listdir": ("list",),
    "os.scandir": ("list",),
    "os.mkdir": ("make",),
    "os.remove": ("write",),
    "os.rmdir": ("write",),
    "os.rename": ("write", "write"),
    "os.link": ("read", "write"),
    "os.symlink": ("read", "write"),
    "os.truncate": ("write",),
    "shutil.copyfile": ("read", "write"),
    "shutil.copytree": ("list", "make"),
    "shutil.move": ("write", "write"),
    "shutil.rmtree": ("write",),
}


def role_of(arguments: list[str]) -> str:
    """From the command line that started this interpreter."""
    module = arguments[arguments.index("-m") + 1] if "-m" in arguments else ""
    if module.startswith("stages."):
        return "stage"
    return {"dvc": "dvc", "groundup.runner.tracking.deliver": "deliver"}.get(module, "other")


class Watch:
    """Logs accesses, counts those that matter and triggers the signal."""

    def __init__(self, log: str, kill: str | None) -> None:
        self.descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.pid = os.getpid()
        self.role = role_of(sys.orig_argv)
        self.count = 0
        if kill:
            role, stage, number, *how = kill.split()
            self.counts_now = role == self.role == "stage" and stage == STAGE
            self.spawning = f"stages.{stage}" if role == self.role == "dvc" else None
            self.number, self.how = int(number), how
        else:
            self.counts_now, self.spawning = False, None
        if self.role == "dvc":
            os.environ["GROUNDUP_DVC_PID"] = str(self.pid)

    def note(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            is_write = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            self.access(event, "write" if is_write else "read", path, may_be_relative_to_fd=mode is None)
        elif event in MODES:
            relative_to_fd = event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename") and arguments[-1] != -1
            for mode, path in zip(MODES[event], arguments, strict=False):
                self.access(event, mode, path, relative_to_fd)
        elif event == "subprocess.Popen" and self.role == "dvc":
            command = str(arguments[1][-1])
            self.write(event, "spawn", command)
            if self.spawning and command.endswith(self.spawning):
                self.counts_now = True

    def access(self, event: str, mode: str, path: object, may_be_relative_to_fd: bool) -> None:
        """Leaves out descriptors and names relative to one: rmtree has already logged what it deletes."""
        if isinstance(path, os.PathLike):
            path = os.fspath(path)
        if not isinstance(path, str) or (may_be_relative_to_fd and not os.path.isabs(path)):
            return
        path = os.path.abspath(path)
        if not path.startswith(ROOT):
            return
        name = path.removeprefix(ROOT)
        self.write(event, mode, name)
        if self.counts_now and name.startswith(COUNTED) and os.getpid() == self.pid:
            self.count += 1
            if self.count == self.number:
                self.kill(*self.how)

    def write(self, event: str, mode: str, text: str) -> None:
        line = "\t".join((f"{time.time():.6f}", str(os.getpid()), self.role, STAGE, event, mode, text))
        os.write(self.descriptor, f"{line}\n".encode())

    def kill(self, delay: str, signal: str, target: str) -> None:
        dvc = int(os.environ["GROUNDUP_DVC_PID"])
        pid = {"self": self.pid, "dvc": dvc, "group": -dvc}[target]
        self.write("kill", "kill", f"{delay} {signal} {target}")
        if float(delay) == 0:
            os.kill(pid, int(signal))
        else:  # by another process, which needs no lock of this interpreter: it may strike inside a C call
            command = f"sleep {delay}; kill -s {signal} -- {pid}"
            os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ, setsid=True)


if LOG:
    sys.addaudithook(Watch(LOG, KILL).note)
