"""Equal fingerprints mean the same run: the version of every package that a stage may import counts."""

from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

from groundup.runner import fingerprint
from groundup.runner.pipeline import PipelineError, read_pipeline


@pytest.fixture(autouse=True)
def asked_again() -> Iterator[None]:
    fingerprint.required_versions.cache_clear()
    yield
    fingerprint.required_versions.cache_clear()


def with_version(monkeypatch: pytest.MonkeyPatch, name: str, version: str) -> None:
    def other(asked: str) -> Distribution:
        found = distribution(asked)
        if found.name == name:
            monkeypatch.setattr(type(found), "version", property(lambda self: found_versions.get(self.name, version)))
        return found

    found_versions = {package: known for package, known in fingerprint.required_versions().items() if package != name}
    fingerprint.required_versions.cache_clear()
    monkeypatch.setattr(fingerprint, "distribution", other)


def value(root: Path) -> str:
    return fingerprint.take_fingerprint(root, read_pipeline(root)["prepare"], {}, "cpu").value


@pytest.mark.parametrize("package", ["scikit-learn", "peft", "accelerate", "datasets", "lm_eval", "datasketch"])
def test_another_version_of_a_package_is_another_run(
    root: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    before = value(root)
    with_version(monkeypatch, package, "0.0.1")
    assert value(root) != before
    assert fingerprint.required_versions()[package] == "0.0.1"


def test_packages_that_nothing_requires_and_groundups_own_version_do_not_count(root: Path) -> None:
    versions = fingerprint.required_versions()
    assert "torch" in versions
    assert versions.keys().isdisjoint({"groundup", "pip", "pytest", "ruff"})


def test_code_that_is_only_on_the_path_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(asked: str) -> Distribution:
        raise PackageNotFoundError(asked)

    monkeypatch.setattr(fingerprint, "distribution", missing)
    with pytest.raises(PipelineError, match="groundup is not installed"):
        value(root)
