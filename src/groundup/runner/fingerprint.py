"""What a run depends on, as one hash: the same inputs resume, other inputs do not."""

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from groundup.runner.files import digest_path
from groundup.runner.pipeline import StageSpec

RUNNER = Path(__file__).parent  # is no dep, but what it does to params, steps and checkpoints shapes outputs


class InputsChangedError(RuntimeError):
    """What the stage read is no longer what it started from."""


@dataclass(frozen=True)
class Fingerprint:
    """The parts are kept so that a difference can be named."""

    stage: str
    params: dict[str, Any]
    digests: dict[str, str]  # each declared dep, code included
    versions: dict[str, str]  # as installed() has them
    device: str

    @property
    def value(self) -> str:
        """Also the name of the work dir; 64 bits are enough to tell runs apart."""
        parts = [self.stage, self.params, self.digests, self.versions, self.device]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def take_fingerprint(root: Path, spec: StageSpec, params: dict[str, Any], device: str) -> Fingerprint:
    """Fingerprint of the working tree as it is now; a missing dep is an error that names them all."""
    missing = [dep for dep in spec.deps if not (root / dep).exists()]
    if missing:
        raise FileNotFoundError(
            f"{spec.name} reads {', '.join(missing)}, which do not exist: `dvc repro {spec.name}` makes them, "
            "`dvc checkout` brings back what DVC has in its cache"
        )
    return Fingerprint(
        stage=spec.name,
        params=params,
        digests={dep: digest_path(root / dep) for dep in spec.deps},
        versions=installed(),
        device=device,
    )


@cache
def installed() -> dict[str, str]:
    """Versions of Python and of all packages, since any of them may be imported; and the runner's code.

    Left out: the operating system, drivers, the models of processor and GPU, and edits of a package that keep its
    version.
    """
    found = reversed(list(distributions()))  # of two with one name the first on the path is imported
    packages = {package.name: package.version for package in found if package.name != "groundup"}
    return {**packages, "python": platform.python_version(), "groundup.runner": digest_path(RUNNER)[:16]}


def changed_deps(root: Path, before: Fingerprint) -> list[str]:
    """Deps that are no longer what they were when the fingerprint was taken."""
    return [
        dep for dep, digest in before.digests.items() if not (root / dep).exists() or digest_path(root / dep) != digest
    ]
