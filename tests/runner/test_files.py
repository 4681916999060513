"""Digests, atomic writes and publishing."""

import json
import shutil
from pathlib import Path

import pytest

from groundup.runner import files
from groundup.runner.files import digest_path, dvc_md5, files_below, publishing, write_json, write_text
from tests.conftest import ROOT


def make_tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_digest_depends_on_content_and_names_only(tmp_path: Path) -> None:
    one = make_tree(tmp_path / "one", {"a.txt": "x", "b/c.txt": "y"})
    two = make_tree(tmp_path / "two", {"b/c.txt": "y", "a.txt": "x"})
    renamed = make_tree(tmp_path / "three", {"a.txt": "x", "b/d.txt": "y"})
    changed = make_tree(tmp_path / "four", {"a.txt": "x", "b/c.txt": "z"})
    assert digest_path(one) == digest_path(two)
    assert len({digest_path(one), digest_path(renamed), digest_path(changed)}) == 3


def test_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert digest_path(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


STRAY = ("__pycache__/a.pyc", "b.pyc", ".a.py.swp", "a.py~", ".#a.py", ".ipynb_checkpoints/a", ".DS_Store", ".idea/a")


@pytest.mark.parametrize("name", [*STRAY, ".vscode/settings.json"])
def test_what_tools_leave_is_no_part_of_a_digest(tmp_path: Path, name: str) -> None:
    tree = make_tree(tmp_path / "tree", {"a.py": "x"})
    before = digest_path(tree), dvc_md5(tree)
    make_tree(tree, {name: "junk"})
    assert (digest_path(tree), dvc_md5(tree)) == before


def test_dvc_md5_of_a_folder_is_what_dvc_records(tmp_path: Path) -> None:
    from dvc.repo import Repo

    tree = make_tree(tmp_path / "out", {"b.txt": "1", "a/z.txt": "2", "a.txt": "3", "a-b/c.txt": "4"})
    make_tree(tree, dict.fromkeys(STRAY, "junk"))
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    repo = Repo.init(str(tmp_path), no_scm=True)
    (stage,) = repo.add(str(tree))
    assert dvc_md5(tree) == stage.outs[0].hash_info.value
    (tmp_path / "file").write_bytes(b"abc")
    assert dvc_md5(tmp_path / "file") == "900150983cd24fb0d6963f7d28e17f72"


def test_publish_replaces_a_folder_and_keeps_the_staged_copy(tmp_path: Path) -> None:
    staged = make_tree(tmp_path / "staged", {"new.txt": "new"})
    target = make_tree(tmp_path / "artifacts/model", {"old.txt": "old"})
    with publishing([(staged, target)]):
        pass
    assert [path.name for path in files_below(target)] == ["new.txt"]
    assert (staged / "new.txt").exists()
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_publish_clears_what_a_killed_publish_left(tmp_path: Path) -> None:
    staged = make_tree(tmp_path / "staged", {"new.txt": "new"})
    make_tree(tmp_path / "artifacts", {".model.publishing/half.txt": "h", ".model.old/old.txt": "o"})
    with publishing([(staged, tmp_path / "artifacts/model")]):
        pass
    assert sorted(path.name for path in (tmp_path / "artifacts").iterdir()) == ["model"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}


def test_write_text_is_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "t", "\u00e9\n")
    assert (tmp_path / "t").read_bytes() == b"\xc3\xa9\n"


def test_folders_reach_the_disk_after_what_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "fsync_path", lambda path: synced.append(path.relative_to(tmp_path).as_posix()))
    files.fsync_tree(make_tree(tmp_path / "t", {"a.txt": "1", "b/c/d.txt": "2"}))
    assert synced == ["t/a.txt", "t/b/c/d.txt", "t/b/c", "t/b", "t"]
    synced.clear()
    write_text(tmp_path / "folder/file", "x")
    assert synced == ["folder"]


def test_a_write_that_is_interrupted_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "old")

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
