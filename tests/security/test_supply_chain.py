"""Installed packages are the locked ones: hashes, pins, and their audit."""

import os
import re
import subprocess
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", re.MULTILINE)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lock() -> dict[str, tuple[Version, int]]:
    """Version and number of hashes of every pin."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return {canonicalize_name(name): (Version(pin), hashes.count("--hash")) for name, pin, hashes in PIN.findall(text)}


def declared() -> list[Requirement]:
    return [Requirement(line) for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]]


def torch_pin() -> Version:
    return Version(re.search(r"torch==([0-9.]+)", MAKEFILE).group(1))


def test_every_line_of_the_lock_is_a_pin_with_hashes() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert len(lock()) == len(names) > 100
    assert [name for name, (_, hashes) in lock().items() if not hashes] == []


def test_what_the_project_declares_is_pinned_within_its_ranges() -> None:
    pins = {name: pin for name, (pin, _) in lock().items()} | {"torch": torch_pin()}
    assert [str(need) for need in declared() if pins[canonicalize_name(need.name)] not in need.specifier] == []


def test_the_lock_has_no_torch_and_no_wheel_that_only_one_platform_has() -> None:
    assert not [name for name in lock() if name in ("torch", "triton") or name.startswith("nvidia-")]


@pytest.mark.parametrize(("platform", "system"), [("linux", "Linux"), ("darwin", "Darwin")])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_is_complete(platform: str, system: str, python: str) -> None:
    """--no-deps installs nothing beyond the lock: what any locked package needs must be in it."""
    pins = {name: pin for name, (pin, _) in lock().items()}
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": platform,
        "platform_system": system,
    }
    queue = [(canonicalize_name(need.name), frozenset(need.extras)) for need in declared()]
    seen = set()
    missing = set()
    while queue:
        name, extras = entry = queue.pop()
        if entry in seen or name == "torch":
            continue
        seen.add(entry)
        for need in map(Requirement, distribution(name).requires or ()):
            wanted = need.marker is None or any(
                need.marker.evaluate(environment | {"extra": e}) for e in ("", *extras)
            )
            needed = canonicalize_name(need.name)
            if wanted and needed != "torch":
                if needed in pins and need.specifier.contains(pins[needed], prereleases=True):
                    queue.append((needed, frozenset(need.extras)))
                else:
                    missing.add(f"{name} needs {need}")
    assert missing == set()


def test_lightning_is_not_one_of_the_versions_that_ran_code_on_load() -> None:
    (need,) = (need for need in declared() if need.name == "lightning")
    assert [v for v in ("2.5.0", "2.6.2", "2.6.3", "2.6.5") if Version(v) in need.specifier] == []
    assert lock()["lightning"][0] >= Version("2.6.6")
    assert Version(version("lightning")) >= Version("2.6.6")


def test_all_that_is_installed_is_hashed_but_torch_and_this_package() -> None:
    installs = re.findall(r"(?:\$\(INSTALL\)|pip install)(.*)", MAKEFILE.split("INSTALL =")[1].split("\n", 1)[1])
    unhashed = [line.split()[-1] for line in installs if "--require-hashes" not in line]
    assert unhashed == [f"torch=={torch_pin()}", "."]
    assert len(installs) == 4
    assert all("--no-deps" in line for line in installs if "torch" not in line)


def test_setuptools_is_cut_from_the_lock_with_its_hashes(tmp_path: Path) -> None:
    command = re.search(r"\t(sed .*requirements\.lock) >", MAKEFILE).group(1).replace("$$", "$")
    cut = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [name for name, _, _ in PIN.findall(cut)] == ["setuptools"]
    assert cut.count("--hash=sha256:") == lock()["setuptools"][1] == len(cut.splitlines()) - 1


def test_workflow_actions_are_pinned_by_commit() -> None:
    used = re.findall(r"uses: (\S+)", (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []


AUDIT = """#!/bin/sh
printf '%s' "$AUDIT_REPORT"
echo "$AUDIT_ERRORS" >&2
exit $AUDIT_CODE
"""
TRACEBACK = "requests.exceptions.{}: HTTPSConnectionPool(host='advisories', port=443): Max retries exceeded"


@pytest.mark.parametrize(
    ("code", "report", "errors", "expected", "said"),
    [
        (0, "", "No known vulnerabilities found", 0, "no known vulnerability in 2 of 2 pins"),
        (0, "a 1 could not be audited", "No known vulnerabilities found", 0, "in 1 of 2 pins; no answer about 1"),
        (0, "a could not be audited\nb could not be audited", "", 0, "audit skipped: the advisory service knows none"),
        (1, "jinja2 2.10 CVE-2019-10906", "Found 1 known vulnerability in 1 package", 1, "jinja2 2.10 CVE-2019-10906"),
        (1, "", TRACEBACK.format("ConnectionError"), 0, "audit skipped: the advisory service cannot be reached"),
        (1, "", TRACEBACK.format("ReadTimeout"), 0, "audit skipped: the advisory service cannot be reached"),
        (1, "", "ERROR: Tip: your network may be blocking this service.", 0, "audit skipped"),
        (1, "", "ERROR: invalid requirements input", 1, "invalid requirements input"),
        (1, "", "ERROR: jinja2 is not pinned", 1, "is not pinned"),
    ],
)
def test_the_audit_fails_on_a_vulnerable_pin_and_not_for_lack_of_network(
    tmp_path: Path, code: int, report: str, errors: str, expected: int, said: str
) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/audit").write_text((ROOT / ".ci/audit").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "Makefile").write_text("\t$(INSTALL) torch==2.13.0\n", encoding="utf-8")
    (tmp_path / "requirements.lock").write_text(f"jinja2==2.10 \\\n    --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    fake = tmp_path / "bin/pip-audit"
    fake.parent.mkdir()
    fake.write_text(AUDIT, encoding="utf-8")
    fake.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}",
        "AUDIT_CODE": str(code),
        "AUDIT_REPORT": report,
        "AUDIT_ERRORS": errors,
    }
    result = subprocess.run(
        ["bash", tmp_path / ".ci/audit"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == expected, result.stderr
    assert said in result.stdout + result.stderr
