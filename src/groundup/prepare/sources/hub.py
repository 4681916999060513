"""Datasets of the Hugging Face hub, or local folders in the same layout, streamed row by row."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow

from groundup.core.formats.records import Record
from groundup.prepare.sources.rows import BadRow, read_row
from groundup.runner.params.prepare import HubSource

COMMIT = re.compile(r"[0-9a-f]{40}")
CONNECT_SECONDS = 10.0


def local_folder(source: HubSource, data_dir: Path) -> Path | None:
    """data/<dataset> where that is a folder; everything else is a name on the hub."""
    if Path(source.dataset).is_absolute() or ".." in Path(source.dataset).parts:
        raise ValueError(f"source {source.name}: dataset {source.dataset} must be a hub name or a folder inside data/")
    folder = data_dir / source.dataset
    return folder if folder.is_dir() else None


def check_hub(source: HubSource, data_dir: Path) -> None:
    """Fail before any work where the dataset cannot be had; ValueError says what to do."""
    if local_folder(source, data_dir) is not None:
        return
    if COMMIT.fullmatch(source.revision) is None:
        raise ValueError(
            f"source {source.name}: revision {source.revision!r} of {source.dataset} can move; pin the 40 digits of "
            "a commit (on the dataset's page: Files and versions, History)"
        )
    # Imported here: half a second that other sources do not need.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        HfApi().dataset_info(source.dataset, revision=source.revision, timeout=CONNECT_SECONDS)
    except RepositoryNotFoundError:
        raise ValueError(
            f"source {source.name}: the hub has no dataset {source.dataset} that you may read; correct the name, or "
            "log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise ValueError(
            f"source {source.name}: {source.dataset} has no revision {source.revision}; pin one of its commits"
        ) from None
    except Exception as error:  # which ones an unreachable hub raises changed with its HTTP library
        raise ValueError(
            f"source {source.name}: {source.dataset} at {source.revision[:12]} cannot be reached "
            f"({type(error).__name__}). Connect to the internet and unset HF_HUB_OFFLINE; or download it elsewhere "
            f"(`hf download --repo-type dataset --revision {source.revision} --local-dir data/{source.dataset} "
            f"{source.dataset}`) and copy that folder to data/{source.dataset}; or remove the source from params.yaml"
        ) from error


def read_hub(source: HubSource, data_dir: Path, cache_dir: Path, max_row_bytes: int) -> Iterator[Record | BadRow]:
    # Imported here: seconds that other sources do not need.
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    folder = local_folder(source, data_dir)
    try:
        rows: Any = load_dataset(
            source.dataset if folder is None else str(folder),
            source.config,
            split=source.split,
            revision=source.revision if folder is None else None,
            streaming=True,
            cache_dir=str(cache_dir),
        )
    except (DatasetsError, OSError, ValueError) as error:
        raise ValueError(
            f"source {source.name}: {source.dataset} (config {source.config}, split {source.split}) cannot be opened: "
            f"{error}. Correct `dataset`, `config` and `split`; a local folder needs the files of the dataset (`hf "
            "download --repo-type dataset`)"
        ) from None
    if source.max_rows is not None:
        rows = rows.take(source.max_rows)
    number = 0
    try:
        for number, row in enumerate(rows, start=1):
            yield read_row(source, source.dataset, number, row, max_row_bytes)
    except (DatasetsError, OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(
            f"source {source.name}: {source.dataset} cannot be read after row {number} ({error}): a file of it is "
            "damaged, or the connection broke; run again, or copy the dataset to data/ and repair it there"
        ) from None
