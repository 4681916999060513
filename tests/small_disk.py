"""A real disk of a few megabytes, for tests of a full and of a read-only one."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INSIDE = "GROUNDUP_TESTS_MAY_MOUNT"  # set for tests that run again in a mount namespace
OWN_NAMESPACE = ("unshare", "--map-root-user", "--mount")
AS_ROOT = ("sudo", "--non-interactive", "--preserve-env", "unshare", "--mount")
MODULE_SECONDS = 600


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs mounted at `folder`; if that is not allowed, the test's module runs in a mount namespace instead."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        assert INSIDE not in os.environ, mounted.stderr
        run_elsewhere(os.environ["PYTEST_CURRENT_TEST"].split("::")[0])
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@functools.cache
def namespace() -> tuple[str, ...] | None:
    """The command that makes mounting possible, if there is one; sudo only on CI machines."""
    for command in (OWN_NAMESPACE, AS_ROOT) if "CI" in os.environ else (OWN_NAMESPACE,):
        with tempfile.TemporaryDirectory() as folder:
            trial = [*command, "mount", "-t", "tmpfs", "tmpfs", folder]
            if shutil.which(command[0]) and subprocess.run(trial, capture_output=True).returncode == 0:
                return command
    return None


@functools.cache
def failures_of(module: str) -> str | None:
    """pytest's output for the module's tests in a mount namespace; None if they pass."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*(namespace() or ()), "env", f"{INSIDE}=1", "PYTHONDONTWRITEBYTECODE=1"]
        command += [f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}", sys.executable, "-m", "pytest"]
        command += [module, f"--basetemp={folder}/tests"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=MODULE_SECONDS)
    return None if result.returncode == 0 else result.stdout[-6000:] + result.stderr[-2000:]


def run_elsewhere(module: str) -> None:
    """End the test: failed if a test of its module fails there, else skipped here."""
    if namespace() is None:
        pytest.skip("this needs a small disk, and mounting a tmpfs is not allowed here")
    if failures := failures_of(module):
        pytest.fail(f"{module} in a mount namespace of its own:\n{failures}", pytrace=False)
    pytest.skip("passed in a mount namespace of its own")


def make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def make_writable(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """A file that takes all the space but `leave_bytes`."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
        file.truncate(file.tell() // 4096 * 4096 - leave_bytes // 4096 * 4096)
    return ballast
