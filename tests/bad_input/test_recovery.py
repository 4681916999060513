"""Under `dvc repro`, which deletes outs and metrics before it runs a stage: the commands in the error restore them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_input.checkout import snapshot
from tests.bad_input.spoil import Spoil, both, delete, set_param, truncate, write
from tests.conftest import GIT_IDENTITY, ROOT
from tests.smoke_run import environment


def call(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A shell command, with the environment's python and dvc first on PATH."""
    env = environment(**GIT_IDENTITY, PYTHONPATH=f"{root}/site{os.pathsep}{root}/src")
    return subprocess.run(command, shell=True, cwd=root, env=env, capture_output=True, text=True, timeout=120)


def must(root: Path, command: str) -> None:
    result = call(root, command)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"


@pytest.fixture(scope="module")
def repository(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a git repository whose outputs DVC has recorded."""
    root = shutil.copytree(template, tmp_path_factory.mktemp("repository") / "checkout", symlinks=True)
    for name in ("src", "stages"):  # DVC does not follow links
        (root / name).unlink()
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    delete("dvc.lock")(root)
    write(".gitignore", "/artifacts\n/.work\n/mlflow\n__pycache__\n")(root)
    for command in ("git init -q", "dvc init -q", "dvc commit -q -f", "git add -A", "git commit -q -m first"):
        must(root, command)
    return root


def outputs(root: Path) -> dict[str, str]:
    found = snapshot(root, (".git", ".dvc", ".work", "mlflow", "src", "stages", "data", "site"))
    return {name: digest for name, (digest, _) in found.items() if name.startswith(("artifacts", "metrics"))}


def commands_in(message: str) -> list[str]:
    """The commands between backticks that restore files."""
    return [found for found in re.findall(r"`([^`]+)`", message) if found.startswith(("dvc checkout", "git checkout"))]


@pytest.mark.parametrize(
    ("stage", "spoil", "what"),
    [
        ("prepare", both(set_param("prepare.seed", 5), set_param("sft.seed", -1)), "sft.seed"),
        ("tokenizer", set_param("tokenizer.scratch.vocab_size", 4096), "more than the text allows"),
    ],
)
def test_the_named_commands_bring_outputs_and_metrics_back(
    repository: Path, stage: str, spoil: Spoil, what: str
) -> None:
    before = outputs(repository)
    spoil(repository)
    result = call(repository, f"dvc repro -s {stage}")
    message = result.stdout + result.stderr
    assert result.returncode != 0
    assert what in message
    assert "Traceback" not in message
    assert outputs(repository) != before  # DVC has deleted them
    commands = commands_in(message)
    assert len(commands) == 2
    for command in commands:
        must(repository, command)
    assert outputs(repository) == before
    must(repository, "git checkout -q -- params.yaml")


def test_the_named_command_repairs_a_damaged_model(repository: Path) -> None:
    """Without --force, DVC keeps a changed file."""
    before = outputs(repository)
    truncate("artifacts/aligned/model.safetensors")(repository)
    result = call(repository, f"{sys.executable} -m groundup.app.cli.main chat")
    assert result.returncode == 1
    (command,) = commands_in(result.stdout + result.stderr)
    must(repository, command)
    assert outputs(repository) == before
