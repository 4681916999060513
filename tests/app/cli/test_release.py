"""groundup promote, rollback and export as commands: their effects and their one-line messages."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from groundup.app.cli.main import app
from groundup.core.model.llama import save_model
from groundup.runner.tracking.registry import NAME, champion
from groundup.runner.tracking.store import open_store
from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder. The commands' environment variables do not outlive the test."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    (tmp_path / "stages").mkdir()
    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = mlflow_store
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def aligned(checkout: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    save_model(tiny_model, tiny_tokenizer, checkout / "artifacts/aligned", "# card\n")
    return checkout / "artifacts/aligned"


def run(line: str) -> tuple[int, str]:
    """Exit code, and the output on one line: the console wraps at its width."""
    result = CliRunner().invoke(app, line.split())
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


def make_versions(uri: str, *verdicts: str) -> MlflowClient:
    client = open_store(uri)
    client.create_registered_model(NAME)
    for verdict in verdicts:
        client.create_model_version(NAME, "file:///nowhere", tags={"gates": verdict, "gates.failed": "harm: worse"})
    return client


def test_promote_and_roll_back(checkout: Path, mlflow_store: str) -> None:
    client = make_versions(mlflow_store, "passed", "failed", "passed")
    assert run("promote --to champion 1") == (0, "version 1 of groundup-assistant is champion now")
    assert run("promote --to champion 3") == (0, "version 3 of groundup-assistant is champion now (it was version 1)")
    code, said = run("promote --to champion 2")
    assert code == 1
    assert said.startswith("version 2 has not passed the gates (harm: worse), and only a version that has can be")
    assert run("promote --to champion 8") == (1, "groundup-assistant has no version 8: it has 1, 2, 3")
    assert run("rollback") == (0, "version 1 of groundup-assistant is champion again, not 3")
    assert champion(client) == "1"
    code, said = run("rollback")
    assert (code, "still exists: `groundup promote" in said) == (1, True)


@pytest.mark.parametrize("line", ["rollback", "promote --to champion 1", "export --to hf --model champion"])
def test_before_there_is_a_champion(checkout: Path, line: str) -> None:
    code, said = run(line)
    assert code == 1
    assert said.startswith("groundup-assistant has no ")
    assert "`dvc repro`" in said


@pytest.mark.parametrize("line", ["rollback", "promote --to champion 1", "export --to hf --model champion"])
def test_without_mlflow(checkout: Path, line: str) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    code, said = run(line)
    assert code == 1
    assert "which cannot be reached now: [Errno 111] Connection refused" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("promote --to king 1", "'king' is not one of 'champion'"),
        ("promote 1", "Missing option '--to'"),
        ("export", "Missing option '--to'"),
        ("export --to onnx", "'onnx' is not one of 'gguf', 'hf', 'adapter'"),
        ("export --to hf --model reward", "'reward' is not one of 'base', 'sft', 'aligned', 'champion'"),
    ],
)
def test_what_there_is_not(checkout: Path, line: str, said: str) -> None:
    code, output = run(line)
    assert code == 2
    assert said in " ".join(output.replace("\u2502", "").split())


def test_export(aligned: Path, checkout: Path) -> None:
    assert run("export --to gguf")[0] == 0
    assert run("export --to hf --out elsewhere/model")[0] == 0
    assert (checkout / "exports/aligned.gguf").read_bytes()[:4] == b"GGUF"
    assert (checkout / "elsewhere/model/model.safetensors").is_file()
    code, said = run("export --to gguf")
    assert code == 1
    assert said.replace(" ", "").endswith(
        "already exists: remove it, or name another place with --out".replace(" ", "")
    )
    code, said = run("export --to adapter")
    assert (code, "has no LoRA adapter" in said) == (1, True)
    (aligned / "tokenizer.json").unlink()
    code, said = run("export --to gguf --out again.gguf")
    assert (code, "tokenizer.json is missing" in said) == (1, True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("export --to hf --bf16", "--bf16 is for `--to adapter`: the other formats have the precision of the weights"),
        ("merge nothing adapter --as mine", "models/nothing: `groundup fetch` brings one, or name a folder"),
        ("merge ./nothing adapter --as mine", "there is no model in nothing: `groundup fetch` brings one"),
        ("merge a b --as ../mine", "'../mine' is not a name of a model: use letters, digits"),
        (
            "merge artifacts/aligned artifacts --as mine",
            "artifacts is not an adapter, it lacks adap",
        ),
    ],
)
def test_what_export_and_merge_refuse(aligned: Path, checkout: Path, line: str, said: str) -> None:
    code, output = run(line)
    assert code == 1
    assert said.replace(" ", "") in output.replace(" ", "")
    assert not (checkout / "models").exists()


@pytest.mark.parametrize("form", ["gguf", "hf", "adapter"])
def test_export_of_a_model_that_is_not_there(checkout: Path, form: str) -> None:
    code, said = run(f"export --to {form} --model sft")
    assert code == 1
    assert said.startswith("there is no model in ")
    assert said.endswith("artifacts/sft: train one with `dvc repro`")
    assert not (checkout / "exports").exists()
