"""Put first on PYTHONPATH: every process notes what it does to files and folders, as `stage<TAB>mode<TAB>path` lines.

Modes: read, write (change or delete), list (a folder's names), make (a folder that may exist already).
"""

import os
import sys

LOG = os.environ.get("GROUNDUP_AUDIT_LOG")
STAGE = os.environ.get("DVC_STAGE", "")

# Event -> modes of its first arguments (docs.python.org/3/library/audit_events.html). os.replace is os.rename.
MODES = {
    "os.listdir": ("list",),
    "os.scandir": ("list",),
    "os.mkdir": ("make",),
    "os.remove": ("write",),
    "os.rmdir": ("write",),
    "os.rename": ("write", "write"),
    "shutil.copyfile": ("read", "write"),
    "shutil.copytree": ("list", "make"),
    "shutil.move": ("write", "write"),
    "shutil.rmtree": ("write",),
}


def note(event: str, arguments: tuple) -> None:
    if event == "open":
        path, mode, flags = arguments
        is_write = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        write_line("write" if is_write else "read", path, may_be_relative_to_fd=mode is None)
    elif event in MODES:
        relative_to_fd = event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename") and arguments[-1] != -1
        for mode, path in zip(MODES[event], arguments, strict=False):
            write_line(mode, path, relative_to_fd)


def write_line(mode: str, path: object, may_be_relative_to_fd: bool) -> None:
    """Descriptors are left out, and names relative to one: rmtree's, which has said what it deletes."""
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if isinstance(path, str) and (os.path.isabs(path) or not may_be_relative_to_fd):
        os.write(descriptor, f"{STAGE}\t{mode}\t{os.path.abspath(path)}\n".encode())


if LOG and STAGE:
    descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    sys.addaudithook(note)
