"""A model of the Hugging Face hub, or of a mirror of it (HF_ENDPOINT), at one commit."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from huggingface_hub import HfApi, ModelInfo, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, but not in __all__
from huggingface_hub.utils.sha import git_hash

from groundup.app.fetch.files import is_taken
from groundup.app.fetch.local import card_licence
from groundup.app.fetch.source import FetchError, Origin
from groundup.core.model.check import CAUSAL, read_config
from groundup.core.model.folder import WEIGHTS
from groundup.runner.disk import free_bytes, megabytes
from groundup.runner.files import hash_file, remove

COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # sha1 of git, sha256 of a large file
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Hub:
    """`repository` is owner/name."""

    repository: str
    revision: str

    @classmethod
    def parse(cls, text: str) -> "Hub":
        """owner/name@<40 hex>; FetchError for a revision that can move."""
        repository, _, revision = text.partition("@")
        if COMMIT.fullmatch(revision) is None:
            raise FetchError(
                f"{text} names {'the revision ' + revision if revision else 'no revision'}, which can move: pin the "
                f"40 digits of a commit, {repository}@<commit> (on the model's page: Files and versions, History)"
            )
        return cls(repository, revision)

    @property
    def name(self) -> str:
        return self.repository.rpartition("/")[2]

    def origin(self) -> Origin:
        """FetchError also where the repository holds no weights that can be taken."""
        info = self._info
        if not any(WEIGHTS.fullmatch(file.rfilename) for file in self._files):
            raise FetchError(
                f"{self.repository} has no model.safetensors and no shards of it: pickles, adapters and GGUF files of "
                "the hub are not taken. Use a repository that has them, or a folder of yours: `groundup fetch --from "
                "DIR --as NAME`"
            )
        licence = card_licence(info.card_data) if info.card_data else None
        return Origin(f"{self.repository}@{self.revision}", self.revision, licence, bool(info.gated))

    def write(self, folder: Path, downloads: Path) -> None:
        """The config goes first: a model that cannot be used costs no download of its weights."""
        present = sum(file.stat().st_size for file in downloads.iterdir())  # of an interrupted fetch
        missing = sum(file.size or 0 for file in self._files) - present
        if (free := free_bytes(downloads)) < missing:
            raise FetchError(
                f"{self.repository} takes {megabytes(missing)} and {megabytes(free)} are free in {folder.parent}: "
                "make room"
            )
        weights = [file for file in self._files if WEIGHTS.fullmatch(file.rfilename)]
        with self._explained():
            for file in self._files:
                if file not in weights:
                    shutil.copyfile(self._download(file, downloads), folder / file.rfilename)
            _, problems = read_config(folder, CAUSAL)
            if problems:
                raise FetchError(f"{self.repository} cannot be used:\n" + "\n".join(f"  {line}" for line in problems))
            downloaded = {file.rfilename: self._download(file, downloads) for file in weights}
        for name, path in downloaded.items():
            os.replace(path, folder / name)

    @cached_property
    def _info(self) -> ModelInfo:
        with self._explained():
            return HfApi().model_info(
                self.repository, revision=self.revision, files_metadata=True, timeout=CONNECT_SECONDS
            )

    @property
    def _files(self) -> list[RepoSibling]:
        return [file for file in self._info.siblings or [] if is_taken(file.rfilename)]

    def _download(self, file: RepoSibling, downloads: Path) -> Path:
        """The whole file, from an earlier try or after the bytes that it got.

        What an earlier try left counts by its digest alone: a power loss can leave other bytes than were written.
        """
        digest = str(file.lfs.sha256 if file.lfs else file.blob_id)
        if DIGEST.fullmatch(digest) is None:  # it names a file here, so a mirror must not choose another place
            raise FetchError(
                f"{self.repository} has no digest of {file.rfilename} but {digest!r:.60}, so it cannot be checked: "
                "take another mirror (HF_ENDPOINT)"
            )
        path = downloads / digest
        if path.is_file() and _digest(file, path) == digest:
            return path
        remove(path)
        part = path.with_suffix(".part")
        if part.is_file() and part.stat().st_size > (file.size or 0):
            remove(part)
        is_resumed = part.is_file()
        found = self._continue(file, part)
        if found != digest:
            remove(part)
            if is_resumed:
                found = self._continue(file, part)
        if found != digest:
            remove(part)
            raise FetchError(
                f"{file.rfilename} of {self.repository} came with digest {found}, not {digest}: run the same command "
                "again; if it stays so, the mirror or a proxy changes files"
            )
        os.replace(part, path)
        return path

    def _continue(self, file: RepoSibling, part: Path) -> str:
        """Download what `part` lacks; returns the digest of the whole."""
        with part.open("ab") as content:
            http_get(
                hf_hub_url(self.repository, file.rfilename, revision=self.revision),
                content,
                resume_size=content.tell(),
                headers=build_hf_headers(),
                expected_size=file.size,
                displayed_filename=file.rfilename,
            )
        return _digest(file, part)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the hub as FetchErrors; what was downloaded stays."""
        name = self.repository
        try:
            yield
        except GatedRepoError:
            raise FetchError(
                f"{name} is gated: its owner gives it to those who accept its licence. Accept it on the model's page "
                "with your account, then set HF_TOKEN to a token of that account, or `hf auth login`"
            ) from None
        except RepositoryNotFoundError:
            raise FetchError(
                f"the hub has no model {name} that you may read: correct the name; for a private one set HF_TOKEN, or "
                "`hf auth login`"
            ) from None
        except RevisionNotFoundError:
            raise FetchError(f"{name} has no commit {self.revision}: pin one of its commits") from None
        except OfflineModeIsEnabled:
            raise FetchError(f"{name} cannot be fetched while HF_HUB_OFFLINE is set: unset it") from None
        except FetchError:
            raise
        except HfHubHTTPError as error:
            raise FetchError(
                f"the hub refused {name} ({' '.join(str(error).split())[:200]}): try the same command later"
            ) from error
        except Exception as error:  # the exceptions for an unreachable hub changed with its HTTP library
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            raise FetchError(
                f"{name} could not be downloaded ({type(error).__name__}: {' '.join(str(error).split())[:200]}). "
                "Connect to the internet, or set HF_ENDPOINT to a mirror, then run the same command again: it "
                "continues where it was"
            ) from error


def _digest(file: RepoSibling, path: Path) -> str:
    """As the hub computes it: sha256 of a large file, git's sha1 of another."""
    return hash_file(path) if file.lfs else str(git_hash(path.read_bytes()))
