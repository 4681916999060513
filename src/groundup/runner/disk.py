"""Recognize and explain errors of a full or read-only disk, whichever library was writing."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

TROUBLE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
}
PROBE_BYTES = 1 << 16


class DiskError(RuntimeError):
    """The message says what could not be written, where, and how to make room."""


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Turn an error caused by a full or read-only disk into a DiskError; other errors pass unchanged."""
    try:
        yield
    except DiskError:
        raise
    except Exception as error:
        probed = _probe(folder)
        number, place = _disk_errno(error, folder)
        number = number or probed
        if number is None:
            raise
        if place is None and number != probed:  # another disk, which the error does not name: /tmp, /dev/shm
            raise DiskError(
                f"{what} could not be written: {TROUBLE[number]}, but not the disk of {folder}. Make room on the "
                "other disks (`df -h` lists them, with /tmp and /dev/shm), then start again: the stage continues "
                "where it was."
            ) from error
        folder = folder if place is None or place.is_relative_to(folder) else place
        raise DiskError(
            f"{what} could not be written to {folder}: {TROUBLE[number]} {_remedy(folder, number)}"
        ) from error


def megabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder`, which may not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def _disk_errno(error: BaseException, folder: Path) -> tuple[int | None, Path | None]:
    """(errno, folder if the error names one). safetensors and copytree put it in their text; torch.save hides it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in TROUBLE:
            written = seen.filename2 or seen.filename  # a copy reads filename and writes filename2
            return seen.errno, Path(written).absolute().parent if isinstance(written, str) else None
        if isinstance(seen, OSError | SafetensorError):  # shutil.Error is an OSError
            numbers = [int(number) for number in re.findall(r"(?:os error|Errno) (\d+)", str(seen))]
            if found := next((number for number in numbers if number in TROUBLE), None):
                # safetensors writes only the model, and has removed the partial file
                return found, folder if isinstance(seen, SafetensorError) else None
        seen = seen.__cause__ or seen.__context__
    return None, None


def _probe(folder: Path) -> int | None:
    """torch.save hides why a write failed, so try a write in the same folder."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder), buffering=0) as file:
            file.write(b"\0" * PROBE_BYTES)
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno if error.errno in TROUBLE else None
    return None


def _existing(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _remedy(folder: Path, number: int) -> str:
    if number == errno.EROFS:
        return "(mount it for writing, then start again: the stage continues where it was)."
    return (
        f"({megabytes(free_bytes(folder))} are free). Make room, for example with `groundup clean` (old work dirs) "
        "or `dvc gc -w` (old versions in DVC's cache), then start again: the stage continues where it was."
    )
