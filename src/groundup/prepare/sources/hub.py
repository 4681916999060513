"""Datasets of the Hugging Face hub, or local folders in the same layout, streamed row by row."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow

from groundup.core.formats.records import Record
from groundup.prepare.sources.reader import Reader
from groundup.prepare.sources.rows import BadRow, read_row
from groundup.runner.params.prepare import HubSource

COMMIT = re.compile(r"[0-9a-f]{40}")
CONNECT_SECONDS = 10.0


class Hub(Reader[HubSource]):
    @property
    def place(self) -> str:
        return f"{self.source.dataset}, split {self.source.split}"

    def origin(self) -> dict[str, Any]:
        folder = self.folder()
        files = [] if folder is None else sorted(path for path in folder.rglob("*") if path.is_file())
        return {"package": self.source.dataset, "version": self.source.revision, "sha256": self.digests(files)}

    def folder(self) -> Path | None:
        """data/<dataset> if that is a folder; None for a name on the hub."""
        name = self.source.dataset
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise self.error(f"dataset {name} must be a hub name or a folder inside data/")
        folder = self.data_dir / name
        return folder if folder.is_dir() else None

    def check(self) -> None:
        if self.folder() is not None:
            return
        source = self.source
        if COMMIT.fullmatch(source.revision) is None:
            raise self.error(
                f"revision {source.revision!r} of {source.dataset} can move; pin the 40 digits of a commit (on the "
                "dataset's page: Files and versions, History)"
            )
        # Imported here: takes half a second, which other sources do not need.
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            HfApi().dataset_info(source.dataset, revision=source.revision, timeout=CONNECT_SECONDS)
        except RepositoryNotFoundError:
            raise self.error(
                f"the hub has no dataset {source.dataset} that you may read; correct the name, or "
                "log in with `hf auth login`"
            ) from None
        except RevisionNotFoundError:
            raise self.error(f"{source.dataset} has no revision {source.revision}; pin one of its commits") from None
        except Exception as error:  # the exceptions for an unreachable hub changed with its HTTP library
            raise self.error(
                f"{source.dataset} at {source.revision[:12]} cannot be reached ({type(error).__name__}). Connect to "
                "the internet and unset HF_HUB_OFFLINE; or download it elsewhere (`hf download --repo-type dataset "
                f"--revision {source.revision} --local-dir data/{source.dataset} {source.dataset}`) and copy that "
                f"folder to data/{source.dataset}; or remove the source from params.yaml"
            ) from error

    def read(self) -> Iterator[Record | BadRow]:
        # Imported here: takes seconds, which other sources do not need.
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        source, folder = self.source, self.folder()
        try:
            rows: Any = load_dataset(
                source.dataset if folder is None else str(folder),
                source.config,
                split=source.split,
                revision=source.revision if folder is None else None,
                streaming=True,
                cache_dir=str(self.cache_dir),
            )
        except (DatasetsError, OSError, ValueError) as error:
            raise self.error(
                f"{source.dataset} (config {source.config}, split {source.split}) cannot be opened: {error}. Correct "
                "`dataset`, `config` and `split`; a local folder needs the files of the dataset (`hf download "
                "--repo-type dataset`)"
            ) from None
        if source.max_rows is not None:
            rows = rows.take(source.max_rows)
        number = 0
        try:
            for number, row in enumerate(rows, start=1):
                yield read_row(source, source.dataset, number, row, self.max_row_bytes)
        except (DatasetsError, OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise self.error(
                f"{source.dataset} cannot be read after row {number} ({error}): a file of it is "
                "damaged, or the connection broke; run again, or copy the dataset to data/ and repair it there"
            ) from None
