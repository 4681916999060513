"""Put first on PYTHONPATH: every process notes which files it opens or lists, as `stage<TAB>mode<TAB>path` lines."""

import os
import sys

LOG = os.environ.get("GROUNDUP_AUDIT_LOG")
STAGE = os.environ.get("DVC_STAGE", "")


def note(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str):
        flags = arguments[2] or 0
        mode = "write" if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "read"
        path = os.path.abspath(arguments[0])
        os.write(descriptor, f"{STAGE}\t{mode}\t{path}\n".encode())


if LOG and STAGE:
    descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    sys.addaudithook(note)
