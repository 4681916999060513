"""A checkpoint of pretraining, exported alone, is what the stage would have published there."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from groundup.app.cli.main import app
from groundup.app.export.checkpoint import write_model_of_checkpoint
from groundup.runner.base import write_lock
from groundup.runner.files import digest_path, write_json
from groundup.runner.params.training import LoraParams
from tests.pretrain.conftest import write_inputs
from tests.pretrain.test_pretrain import MODEL, PRETRAIN, run
from tests.resume import Curve

LORA = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules=["down_proj"])


@pytest.fixture
def root(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A checkout with the inputs of pretrain."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    write_inputs(tmp_path / "artifacts", tiny_tokenizer)
    write_lock(tmp_path, None)
    return tmp_path


def trained(root: Path, **changes: Any) -> Path:
    """The folder of the checkpoints of a finished training; its model is root/out."""
    params = PRETRAIN.model_copy(update=changes)
    inputs = {name: root / "artifacts" / name for name in ("tokenizer", "shards", "text")}
    log = Curve()
    run(inputs, root, log, params)
    work = root / ".work/pretrain/0f"
    parts = {
        "stage": "pretrain",
        "params": {"model": MODEL.model_dump(), "pretrain": params.model_dump()},
        "digests": {dep: digest_path(root / dep) for dep in ("artifacts/tokenizer", "base.lock")},
    }
    write_json(work / "fingerprint.json", parts)
    (work / "scratch").mkdir()
    return log.checkpoints(root).folder.rename(work / "scratch/checkpoints")


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_last_one_is_the_published_model(root: Path, lora: LoraParams | None) -> None:
    checkpoints = trained(root, lora=lora)
    for step in (6, 8):
        write_model_of_checkpoint(root, checkpoints / f"checkpoint-{step}", root / str(step))
    files = ["model.safetensors", "config.json", "tokenizer.json", "README.md"]
    files += ["adapter/adapter_model.safetensors"] if lora else []
    for file in files:
        assert (root / "8" / file).read_bytes() == (root / "out" / file).read_bytes()
    assert (root / "6/model.safetensors").read_bytes() != (root / "8/model.safetensors").read_bytes()


def test_the_command_writes_a_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = trained(root)
    monkeypatch.chdir(root)
    command = ["export", "--to", "hf", "--checkpoint", str(checkpoints / "checkpoint-6")]
    result = CliRunner().invoke(app, [*command, "--model", "sft"])
    assert result.exit_code != 0
    assert "leave out --model" in result.output
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert (root / "exports/checkpoint-6/config.json").is_file()


def test_what_is_none_of_pretraining_is_refused(root: Path) -> None:
    checkpoints = trained(root)
    newest = checkpoints / "checkpoint-8"
    for other in (root / "out", Path("/checkpoint-1")):
        with pytest.raises(ValueError, match=r"is not a checkpoint of a stage: name a folder \.work/pretrain"):
            write_model_of_checkpoint(root, other, root / "exported")
    lock = (root / "base.lock").read_text()
    (root / "base.lock").write_text(lock + " ")
    with pytest.raises(ValueError, match=r"base\.lock is not the one that .*checkpoint-8 was trained with"):
        write_model_of_checkpoint(root, newest, root / "exported")
    (root / "base.lock").write_text(lock)
    (root / "artifacts/tokenizer/new.txt").touch()
    with pytest.raises(ValueError, match=r"artifacts/tokenizer is not the one that .*checkpoint-8 was trained with"):
        write_model_of_checkpoint(root, newest, root / "exported")
    (newest / "state.ckpt").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"cannot be used: state\.ckpt changed since it was written"):
        write_model_of_checkpoint(root, newest, root / "exported")
    write_json(root / ".work/pretrain/0f/fingerprint.json", {"stage": "sft"})
    with pytest.raises(ValueError, match="is of sft: only those of pretrain"):
        write_model_of_checkpoint(root, newest, root / "exported")
    assert not (root / "exported").exists()
