"""The same bytes in another folder, with another hash seed, locale, encoding, time zone and umask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.runner.files import dvc_md5, files_below, publishing
from tests.conftest import ROOT

ELSEWHERE = {
    "PYTHONHASHSEED": "4242",
    # Python would use UTF-8 in the C locale; without that, every open() without an encoding is ASCII.
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "TZ": "Pacific/Kiritimati",
    "COLUMNS": "40",
}


def has_locale(name: str) -> bool:
    """Whether it is installed, in any spelling of `locale -a`."""
    listed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=True).stdout.lower().split()
    return name.lower().replace("-", "") in {found.replace("-", "") for found in listed}


def made(folder: Path, umask: int, **extra: str) -> Path:
    """The folder written by make.py."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-W", "ignore", "-m", "tests.determinism.make", str(folder)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"} | extra
    subprocess.run(command, cwd=folder, env=environment, umask=umask, check=True, capture_output=True, timeout=300)
    return folder / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files_below(folder)}


@pytest.mark.services
def test_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    """Every open() without an encoding is ASCII here; end_to_end/test_repro.py uses a Turkish locale."""
    here = made(tmp_path / "a", umask=0o022, PYTHONHASHSEED="0", LC_ALL="C.UTF-8", TZ="UTC")
    there = made(tmp_path / "another folder/b", umask=0o077, LC_ALL="C", **ELSEWHERE)
    one, two = contents(here), contents(there)
    assert one.keys() == two.keys()
    assert len(one) > 20
    assert [name for name in one if one[name] != two[name]] == []
    assert dvc_md5(here) == dvc_md5(there)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027])
def test_what_is_published_stays_readable_and_never_executable(tmp_path: Path, umask: int) -> None:
    """DVC records the executable bit, so the umask must not set one; the owner must be able to read the file."""
    old = os.umask(umask)
    try:
        staged = tmp_path / "staged"
        staged.mkdir()
        (staged / "model.json").write_text("{}", encoding="utf-8")
        with publishing([(staged, tmp_path / "out")]):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "out/model.json").stat().st_mode & 0o777 == 0o666 & ~umask
