"""All sources behind one iterator of records."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, assert_never

from groundup.data.files import file_digest, find_files, read_files
from groundup.data.hub import check_hub, local_folder, read_hub
from groundup.data.packages import package_problem, read_package
from groundup.data.records import Record
from groundup.frame.params.prepare import FilesSource, HubSource, PackageSource, Source


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


def read_source(source: Source, data_dir: Path, cache_dir: Path, seed: int, max_characters: int) -> Iterator[Record]:
    match source:
        case PackageSource():
            return read_package(source, seed)
        case FilesSource():
            return read_files(source, data_dir, max_characters)
        case HubSource():
            return read_hub(source, data_dir, cache_dir)
        case _:
            assert_never(source)


def describe_source(source: Source, data_dir: Path) -> dict[str, Any]:
    """Origin, version, hashes and licence for the data card."""
    origin: dict[str, Any]
    match source:
        case PackageSource():
            origin = {"package": source.package, "version": source.version, "sha256": {source.path: source.sha256}}
        case FilesSource():
            digests = {
                path.relative_to(data_dir).as_posix(): file_digest(path) for path in find_files(source, data_dir)
            }
            origin = {"package": None, "version": None, "sha256": digests}
        case HubSource():
            folder = local_folder(source, data_dir)
            files = [] if folder is None else sorted(path for path in folder.rglob("*") if path.is_file())
            digests = {path.relative_to(data_dir).as_posix(): file_digest(path) for path in files}
            origin = {"package": source.dataset, "version": source.revision, "sha256": digests}
        case _:
            assert_never(source)
    return {"name": source.name, "kind": source.kind, **origin, "licence": source.licence}
