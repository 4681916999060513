"""`dvc exp run --temp` copies what git tracks: prepare refuses to read less than the user has."""

import subprocess
from pathlib import Path

import pytest

from groundup.prepare.outputs.outputs import OUTPUTS
from groundup.prepare.prepare import prepare
from groundup.prepare.sources.copied import check_copied
from tests.conftest import ROOT
from tests.presets import preset


def test_prepare_looks_before_it_reads(tmp_path: Path) -> None:
    for path in (tmp_path / "data/a.txt", tmp_path / ".dvc/tmp/exps/abc/data/b.txt"):
        write(path)
    copy, out = tmp_path / ".dvc/tmp/exps/abc", tmp_path / "out"
    with pytest.raises(ValueError, match=r"copy lacks 1 files of data/ \(a\.txt\)"):
        prepare(
            preset("smoke").prepare, copy / "data", {name: out / name for name in OUTPUTS}, out / "r", out / "w", 1
        )


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text", encoding="utf-8")


def test_a_copy_that_lacks_files_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / ".dvc/tmp/exps/abc/data"
    for path in (tmp_path / "data/README.md", tmp_path / "data/diary/a.txt", copy / "README.md"):
        write(path)
    check_copied(tmp_path / "data")
    with pytest.raises(ValueError, match=r"copy lacks 1 files of data/ \(diary/a\.txt\).*without --temp and --queue"):
        check_copied(copy)
    write(copy / "diary/a.txt")
    check_copied(copy)


def test_git_ignores_what_a_user_puts_into_data() -> None:
    command = ["git", "check-ignore", "data/notes.txt", "data/diary/a.jsonl.gz", "data/README.md"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.split() == ["data/notes.txt", "data/diary/a.jsonl.gz"], found.stderr
