"""A folder or GGUF file of the user's; an earlier artifacts/aligned is one too."""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from groundup.app.fetch.files import is_taken, unsafe_files
from groundup.app.fetch.gguf import convert
from groundup.app.fetch.source import FetchError, Origin
from groundup.runner.files import hash_file


@dataclass(frozen=True)
class Local:
    path: Path

    @property
    def name(self) -> str:
        return self.path.resolve().stem if self.path.is_file() else self.path.resolve().name

    def origin(self) -> Origin:
        if not self.path.exists():
            raise FetchError(f"{self.path} does not exist: give a folder with a model, or a GGUF file")
        if self.path.is_file() and self.path.suffix != ".gguf":
            raise FetchError(f"{self.path} is not a GGUF file: give one, or the folder that holds the model")
        revision = f"sha256 {hash_file(self.path)}" if self.path.is_file() else None
        # PATH in place of the folder that it is in: cards and base.lock, which name the source, are shared.
        shown = shlex.quote(f"PATH/{self.path.resolve().name}")
        return Origin(f"--from {shown}", revision, self._licence())

    def write(self, folder: Path, downloads: Path) -> None:
        if self.path.is_file():
            convert(self.path, folder)
            return
        if problems := unsafe_files(self.path):
            raise FetchError(f"{self.path} is not taken:\n" + "\n".join(f"  {problem}" for problem in problems))
        for file in sorted(self.path.iterdir()):
            if file.is_file() and is_taken(file.name):
                shutil.copyfile(file, folder / file.name)

    def _licence(self) -> str | None:
        card = (self.path.parent if self.path.is_file() else self.path) / "README.md"
        return card_licence(ModelCard.load(card, ignore_metadata_errors=True).data) if card.is_file() else None


def card_licence(card: ModelCardData) -> str | None:
    """As the head of a model card states it; "other" is no licence without its name."""
    licence: object = card.license  # whatever its YAML holds
    if licence == "other":
        licence = card.license_name or licence
    if isinstance(licence, list):
        return ", ".join(map(str, licence)) or None
    return None if licence is None else str(licence)
