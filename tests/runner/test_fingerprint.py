"""Equal fingerprints mean the same run: all that a stage can import counts."""

from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from groundup.runner import fingerprint
from groundup.runner.pipeline import read_pipeline


def value(root: Path, monkeypatch: pytest.MonkeyPatch, **versions: str) -> str:
    """With other versions of some packages."""

    def installed() -> list[Distribution]:
        found = [d for d in distributions() if d.name not in versions]
        return [*found, *(Installed(name, version) for name, version in versions.items())]

    fingerprint.installed.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(fingerprint, "distributions", installed)
        taken = fingerprint.take_fingerprint(root, read_pipeline(root)["prepare"], {}, "cpu")
    fingerprint.installed.cache_clear()
    return taken.value


class Installed(Distribution):
    def __init__(self, name: str, version: str) -> None:
        self._name, self._version = name, version

    name = property(lambda self: self._name)
    version = property(lambda self: self._version)

    def read_text(self, filename: str) -> None:
        return None

    def locate_file(self, path: object) -> Path:
        raise NotImplementedError


@pytest.mark.parametrize("package", ["scikit-learn", "peft", "accelerate", "datasets", "datasketch", "new-package"])
def test_another_version_of_any_package_is_another_run(
    root: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    assert value(root, monkeypatch) != value(root, monkeypatch, **{package: "0.0.1"})


def test_groundup_counts_by_its_code_and_not_by_its_version(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert value(root, monkeypatch) == value(root, monkeypatch, groundup="99.0")


def test_another_runner_is_another_run(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = value(root, monkeypatch)
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner/steps.py").write_text("pass")
    monkeypatch.setattr(fingerprint, "RUNNER", tmp_path / "runner")
    assert value(root, monkeypatch) != before
