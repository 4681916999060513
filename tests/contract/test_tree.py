"""House rules that can be checked automatically."""

import ast
import re
from pathlib import Path

import pytest

from tests.contract.imports import ROOT

SOURCES = sorted((ROOT / "src/groundup").rglob("*.py"))
STAGES = sorted((ROOT / "stages").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def test_the_mlflow_folder_is_no_package() -> None:
    assert not (ROOT / "mlflow/__init__.py").exists(), "it would hide the installed mlflow"


@pytest.mark.parametrize("path", [*SOURCES, *STAGES, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_short_and_ascii(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= (47 if path in STAGES else 400)
    assert text.isascii()


def test_training_code_opens_no_config_and_no_tracker() -> None:
    for path in SOURCES:
        if {"runner", "cli"} & set(path.parts):
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"import mlflow|from mlflow|dvc\.yaml|MLFLOW_|os\.environ\[", text), path
        assert not re.search(r"read_text\([^)]*params\.yaml|open\([^)]*params\.yaml", text), path


MAY_FORWARD = {
    "core/model/variants.py:forward",  # the signature is transformers'
}


def forwarding_functions(tree: ast.AST) -> list[str]:
    """Names of functions that pass the rest of their keyword arguments to another call, also through a lambda."""
    return [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and (rest := function.args.kwarg)
        and any(
            keyword.arg is None and rest.arg in {n.id for n in ast.walk(keyword.value) if isinstance(n, ast.Name)}
            for call in ast.walk(function)
            if isinstance(call, ast.Call)
            for keyword in call.keywords
        )
    ]


def test_no_forwarded_keyword_arguments() -> None:
    """A reader of a call must see which options exist."""
    found = {
        f"{path.relative_to(ROOT / 'src/groundup').as_posix()}:{name}"
        for path in SOURCES
        for name in forwarding_functions(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == MAY_FORWARD


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("return g(x, **kwargs)", ["f"]),
        ("return lambda: g(**{'a': 1, **kwargs})", ["f"]),
        ("return kwargs['a']", []),
        ("batch = {'a': 1}; return g(**batch)", []),
        ("return {**kwargs}", []),
    ],
)
def test_forwarding_is_recognised(body: str, found: list[str]) -> None:
    assert forwarding_functions(ast.parse(f"def f(x, **kwargs): {body}")) == found


def test_no_bare_except() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}:{node.lineno}"


def test_the_import_name_is_not_shadowed() -> None:
    assert {
        path.name for path in (ROOT / "src").iterdir() if path.is_dir() and not path.name.endswith(".egg-info")
    } == {"groundup"}
