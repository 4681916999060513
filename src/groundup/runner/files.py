"""Files that are whole or absent: digests, atomic writes, publishing."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from groundup.runner.disk import writing

CHUNK = 1 << 20
# Files that tools leave behind. .dvcignore has the same list, so that DVC and the fingerprint see the same files.
IGNORED = ("__pycache__", "*.pyc", "*.swp", "*~", ".#*", ".ipynb_checkpoints", ".DS_Store", ".idea", ".vscode")


def restore(path: Path | str) -> str:
    """How to restore a damaged generated file or folder; without --force, DVC keeps a changed one."""
    return f"`dvc checkout --force {path}` brings back what DVC recorded, `dvc repro` makes it again."


class DamagedFileError(ValueError):
    """A file cannot be read; the message says which, where in it, and what to do."""


def files_below(path: Path) -> Iterator[Path]:
    """The file itself, or every file of the folder in the order of their relative POSIX paths."""
    if path.is_file():
        yield path
    else:
        found = (p for p in path.rglob("*") if p.is_file() and not is_ignored(p.relative_to(path)))
        yield from sorted(found, key=lambda p: p.relative_to(path).as_posix())


def is_ignored(path: Path) -> bool:
    """Whether any part of the relative path matches IGNORED."""
    return any(fnmatchcase(part, pattern) for part in path.parts for pattern in IGNORED)


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """sha256 of every file, by its relative POSIX path."""
    return {file.relative_to(folder).as_posix(): hash_file(file) for file in files_below(folder)}


def digest_path(path: Path) -> str:
    """sha256 of a file, or of a folder's relative paths and contents."""
    if path.is_file():
        return hash_file(path)
    digest = hashlib.sha256()
    for name, of_file in file_digests(path).items():
        digest.update(f"{name}\0{of_file}\n".encode())
    return digest.hexdigest()


def dvc_md5(path: Path) -> str:
    """The md5 that dvc.lock records: of a file, or of the JSON listing of a folder (with the suffix .dir)."""
    if path.is_file():
        return hash_file(path, "md5")
    listing = [
        {"md5": hash_file(file, "md5"), "relpath": file.relative_to(path).as_posix()} for file in files_below(path)
    ]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def fsync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(path: Path) -> None:
    """fsync every file, then every folder, deepest first: the entries of a folder need an fsync of their own."""
    for file in files_below(path):
        fsync_path(file)
    if path.is_dir():
        for folder in sorted((folder for folder in path.rglob("*") if folder.is_dir()), reverse=True):
            fsync_path(folder)
        fsync_path(path)


def write_text(path: Path, text: str) -> None:
    """Write beside, fsync, replace: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.writing")
    with beside.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    fsync_path(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


REGENERATE = "delete it, then `dvc repro` writes it again"


def read_json(path: Path, remedy: str = REGENERATE) -> Any:
    """Read a generated file; `remedy` says what to do about a damaged one."""
    text = _read_text(path, remedy)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DamagedFileError(f"{path} is not valid JSON ({error}); {remedy}") from None


def read_object(path: Path, remedy: str = REGENERATE) -> dict[str, Any]:
    value = read_json(path, remedy)
    if not isinstance(value, dict):
        raise DamagedFileError(f"{path} is not an object but {value!r:.40}; {remedy}")
    return value


def read_yaml(path: Path, remedy: str) -> Any:
    """YAML 1.2, as DVC reads it (1e-4 is a number)."""
    text = _read_text(path, "save it as UTF-8")
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        location = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise DamagedFileError(f"{path}{location} is not valid YAML ({said}); {remedy}") from None
    except YAMLError as error:
        raise DamagedFileError(f"{path} is not valid YAML ({error}); {remedy}") from None


def _read_text(path: Path, remedy: str) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise DamagedFileError(f"{path} is a folder where a file should be; remove it") from None
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path} is not valid UTF-8 ({error.reason} at byte {error.start}); {remedy}") from None
    if conflict := re.search(r"^<{7} ", text, flags=re.MULTILINE):
        line = text.count("\n", 0, conflict.start()) + 1
        raise DamagedFileError(f"{path}, line {line}: git's conflict markers; resolve the conflict")
    return text


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):  # on a read-only disk, unlinking a missing file is an error
        path.unlink()


@contextmanager
def publishing(copies: Sequence[tuple[Path, Path]]) -> Iterator[None]:
    """Put a copy of each staged path at its target; what is staged stays, for the case that DVC's commit fails.

    The copies are made before the block and renamed after it: a full disk or an error in the block changes no target.
    """
    try:
        for staged, target in copies:
            with writing(target.name, target.parent):
                _copy(staged, _beside(target))
        yield
    except BaseException:
        for _, target in copies:
            remove(_beside(target))
        raise
    for _, target in copies:
        old = target.with_name(f".{target.name}.old")
        remove(old)
        if target.is_dir():  # os.replace cannot put a folder over one that is not empty
            os.replace(target, old)
        os.replace(_beside(target), target)
        fsync_path(target.parent)
        remove(old)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.publishing")


def _copy(staged: Path, beside: Path) -> None:
    remove(beside)
    beside.parent.mkdir(parents=True, exist_ok=True)
    if staged.is_dir():
        shutil.copytree(staged, beside)
    else:
        shutil.copyfile(staged, beside)
    fsync_tree(beside)
