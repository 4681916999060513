"""A hash of everything that a run depends on: a run resumes only with the same hash."""

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from groundup.runner.base import LOCK, read_lock
from groundup.runner.files import digest_path
from groundup.runner.pipeline import PipelineError, StageSpec


class InputsChangedError(RuntimeError):
    """Inputs of the stage changed while it ran."""


@dataclass(frozen=True)
class Fingerprint:
    """The parts are kept so that a difference can be named."""

    stage: str
    params: dict[str, Any]
    digests: dict[str, str]  # each declared dep, code included
    versions: dict[str, str]  # as required_versions() has them
    device: str

    @property
    def value(self) -> str:
        """Also the name of the work dir; 64 bits are enough to tell runs apart."""
        parts = [self.stage, self.params, self.digests, self.versions, self.device]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def take_fingerprint(root: Path, spec: StageSpec, params: dict[str, Any], device: str) -> Fingerprint:
    """Fingerprint of the working tree as it is now; FileNotFoundError names all missing deps, BaseError base.lock."""
    if LOCK in spec.deps:
        read_lock(root)  # git has it, not DVC
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
        versions=required_versions(),
        device=device,
    )


@cache
def required_versions() -> dict[str, str]:
    """Versions of Python and of all packages that groundup requires, directly or through others."""
    found = {"python": platform.python_version()}
    names = ["groundup"]
    while names:
        name = names.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another platform
            continue
        if package.name not in found:
            found[package.name] = package.version
            names += [Requirement(text).name for text in package.requires or () if "extra ==" not in text]
    if found.pop("groundup", None) is None:  # it counts by its code
        raise PipelineError("groundup is not installed, so the packages that it requires are not known: `make setup`")
    return found


def changed_deps(root: Path, before: Fingerprint) -> list[str]:
    """Deps that changed since the fingerprint was taken."""
    return [
        dep for dep, digest in before.digests.items() if not (root / dep).exists() or digest_path(root / dep) != digest
    ]
