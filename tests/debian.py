"""Programs that tests need, from Debian's packages."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def install(*packages: str) -> str:
    """Why these packages cannot be installed here; empty once they are."""
    if not shutil.which("apt-get"):
        return f"{packages[0]} is not installed, and there is no apt-get"
    with (Path(tempfile.gettempdir()) / "groundup-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # apt-get refuses to run beside another one
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            ran = subprocess.run(
                ["apt-get", *command],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                check=False,
            )
            if ran.returncode:
                return f"apt-get {' '.join(command)} failed: {ran.stderr[-300:]}"
    return ""
