"""All sources behind one iterator of records."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, assert_never

from groundup.core.formats.records import Record
from groundup.prepare.sources.files import find_files, read_files
from groundup.prepare.sources.hub import check_hub, local_folder, read_hub
from groundup.prepare.sources.packages import package_problem, read_package
from groundup.prepare.sources.rows import BadRow
from groundup.runner.files import hash_file
from groundup.runner.params.prepare import FilesSource, HubSource, PackageSource, PrepareParams, Source


def check_sources(sources: Sequence[Source], data_dir: Path) -> None:
    """ValueError with every source that cannot be read, before an hour went into the others."""
    problems = []
    for source in sources:
        try:
            match source:
                case PackageSource():
                    if (problem := package_problem(source)) is not None:
                        problems.append(problem)
                case FilesSource():
                    find_files(source, data_dir)
                case HubSource():
                    check_hub(source, data_dir)
                case _:
                    assert_never(source)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("prepare.sources cannot be read:\n" + "\n".join(problems))


def read_source(source: Source, data_dir: Path, cache_dir: Path, params: PrepareParams) -> Iterator[Record | BadRow]:
    match source:
        case PackageSource():
            return read_package(source, params.seed)
        case FilesSource():
            return read_files(source, data_dir, params.clean.max_characters, params.max_row_bytes)
        case HubSource():
            return read_hub(source, data_dir, cache_dir, params.max_row_bytes)
        case _:
            assert_never(source)


def place(source: Source) -> str:
    """Where its rows lie, for a message."""
    match source:
        case PackageSource():
            return source.path
        case FilesSource():
            return ", ".join(f"data/{pattern}" for pattern in source.paths)
        case HubSource():
            return f"{source.dataset}, split {source.split}"
        case _:
            assert_never(source)


def describe_source(source: Source, data_dir: Path) -> dict[str, Any]:
    """Origin, version, hashes and licence for the data card."""
    origin: dict[str, Any]
    match source:
        case PackageSource():
            origin = {"package": source.package, "version": source.version, "sha256": {source.path: source.sha256}}
        case FilesSource():
            digests = {path.relative_to(data_dir).as_posix(): hash_file(path) for path in find_files(source, data_dir)}
            origin = {"package": None, "version": None, "sha256": digests}
        case HubSource():
            folder = local_folder(source, data_dir)
            files = [] if folder is None else sorted(path for path in folder.rglob("*") if path.is_file())
            digests = {path.relative_to(data_dir).as_posix(): hash_file(path) for path in files}
            origin = {"package": source.dataset, "version": source.revision, "sha256": digests}
        case _:
            assert_never(source)
    return {"name": source.name, "kind": source.kind, **origin, "licence": source.licence}
