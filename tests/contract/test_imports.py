"""A stage imports its own folder, core and the runner; core imports core and the runner; the runner only itself."""

import ast
from pathlib import Path

import pytest

from tests.contract.imports import SRC, STAGES, cycle, folder_of, imported_files, may_import, reached_files

FILES = sorted((SRC / "groundup").rglob("*.py"))


def test_the_folders_are_those_of_the_house() -> None:
    folders = {path.name for path in (SRC / "groundup").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*STAGES, "core", "runner", "app"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SRC).as_posix())
def test_a_file_imports_what_its_folder_may(path: Path) -> None:
    for imported in imported_files(path):
        assert may_import(folder_of(path), folder_of(imported)), f"{path} imports {imported}"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("sft", "sft", True),
        ("sft", "core/model", True),
        ("sft", "runner", True),
        ("sft", "pretrain", False),
        ("sft", "app", False),
        ("core/model", "core/formats", True),
        ("core/model", "runner", True),
        ("core/model", "sft", False),
        ("core/model", "app", False),
        ("runner", "core/formats", False),
        ("runner", "sft", False),
        ("app", "evaluate", True),
    ],
)
def test_who_may_import_whom(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) == allowed


def test_no_folder_and_no_file_stands_in_a_cycle() -> None:
    files = {path.as_posix(): {other.as_posix() for other in imported_files(path)} for path in FILES}
    assert cycle(files) == []
    folders: dict[str, set[str]] = {}
    for path in FILES:
        folders.setdefault(folder_of(path), set()).update(map(folder_of, imported_files(path)))
    assert cycle({name: others - {name} for name, others in folders.items()}) == []


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_reach_follows_modules_names_and_imports_in_functions(tmp_path: Path) -> None:
    for name, text in {
        "groundup/__init__.py": "",
        "groundup/core/__init__.py": "",
        "groundup/core/text/__init__.py": "",
        "groundup/core/text/words.py": "",
        "groundup/core/model/__init__.py": "from groundup.core.text.words import x\nLIST = 1",
        "groundup/sft/__init__.py": "",
        "groundup/sft/sft.py": "def f():\n    from groundup.core.model import LIST",
        "stages/sft.py": "from groundup.sft import sft\nimport torch",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    reached = reached_files(tmp_path / "stages/sft.py", tmp_path)
    assert {folder_of(path, tmp_path) for path in reached} == {"sft", "core/model", "core/text"}


@pytest.mark.parametrize("package", ["groundup", "groundup/core"])
def test_packages_that_are_no_dep_of_a_stage_hold_no_code(package: str) -> None:
    (docstring,) = ast.parse((SRC / package / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
