"""Nothing published is a pickle, and a malicious checkpoint runs nothing."""

import bz2
import gzip
import io
import os
import pickle
import zlib
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from datasets import Dataset
from lightning.pytorch.demos.boring_classes import BoringModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.shards import write_shards
from groundup.core.model.llama import save_model
from groundup.core.training.adapters import add_adapter, merge_adapter
from groundup.runner.params.training import LoraParams
from groundup.runner.steps import FinishedSteps
from tests.conftest import SENTENCES
from tests.security.pickles import is_pickle, pickles_below, why_pickle


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.canary,)


def saved_by_torch(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def saved_by_numpy(value: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_something_is_found_in_every_protocol(protocol: int) -> None:
    assert is_pickle(pickle.dumps(Evil(Path("x")), protocol=protocol))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"a": 1}),
        saved_by_torch({"a": torch.zeros(2)}),
        saved_by_torch({"a": torch.zeros(2)}, _use_new_zipfile_serialization=False),
        gzip.compress(pickle.dumps([1]), mtime=0),
        zlib.compress(pickle.dumps([1])),
        bz2.compress(pickle.dumps([1])),
        saved_by_numpy(np.array([{}], dtype=object)),
    ],
    ids=["pickle", "torch", "legacy torch", "gzip", "zlib", "bzip2", "object array"],
)
def test_a_pickle_is_found_under_an_innocent_name(content: bytes) -> None:
    assert list(why_pickle("model.bin", content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"{}\n",
        b"plain text.",
        bytes(range(256)) * 4,
        b"\x80\x02 not a pickle",
        gzip.compress(b"text", mtime=0),
        b"\x1f\x8b only looks compressed",
        saved_by_numpy(np.arange(4)),
    ],
    ids=["empty", "dot", "json", "text", "all bytes", "like a pickle", "gzip", "like gzip", "array"],
)
def test_what_is_no_pickle_passes(content: bytes) -> None:
    assert list(why_pickle("tokens.bin", content)) == []


def test_saved_models_and_shards_hold_no_pickle(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_model(tiny_model, tiny_tokenizer, tmp_path / "base", "# card\n")
    reward = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    save_model(reward, tiny_tokenizer, tmp_path / "reward", "# card\n")
    adapted = add_adapter(tiny_model, LoraParams(rank=2, alpha=2, dropout=0.0, target_modules=["q_proj"]))
    save_model(merge_adapter(adapted, tmp_path / "sft/adapter"), tiny_tokenizer, tmp_path / "sft", "# card\n")
    write_jsonl(tmp_path / "text.jsonl", [{"text": text} for text in SENTENCES])
    steps = FinishedSteps(tmp_path / "steps")
    write_shards(tiny_tokenizer, tmp_path / "text.jsonl", tmp_path / "shards", shard_tokens=64, steps=steps)
    assert pickles_below(tmp_path) == []
    weights = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.safetensors")}
    assert weights == {f"{name}/model.safetensors" for name in ("base", "reward", "sft")} | {
        "sft/adapter/adapter_model.safetensors"
    }


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Appears when a pickle runs; torch trusts every file whose loader does not set weights_only."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    canary = tmp_path / "canary"
    with pytest.warns(UserWarning, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD detected"):
        torch.load(io.BytesIO(saved_by_torch(Evil(canary))))
    assert canary.is_dir(), "the pickle must be able to do harm"
    canary.rmdir()
    return canary


def test_a_model_directory_with_pickled_weights_runs_nothing(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, canary: Path
) -> None:
    save_model(tiny_model, tiny_tokenizer, tmp_path / "model", "# card\n")
    (tmp_path / "model/model.safetensors").unlink()
    (tmp_path / "model/pytorch_model.bin").write_bytes(saved_by_torch(Evil(canary)))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert not canary.exists()


def trainer(model: LlamaForCausalLM, output_dir: Path) -> Trainer:
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 4
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        max_steps=2,
        save_steps=1,
        per_device_train_batch_size=1,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    return Trainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows))


def test_a_pickle_in_a_checkpoint_of_the_trainer_runs_nothing(
    tiny_model: LlamaForCausalLM, tmp_path: Path, canary: Path
) -> None:
    trainer(tiny_model, tmp_path / "work").train()
    checkpoint = tmp_path / "work/checkpoint-1"
    pickled = [path for path in checkpoint.iterdir() if list(why_pickle(path.name, path.read_bytes()))]
    assert {path.name for path in pickled} == {"optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin"}
    evil = saved_by_torch(Evil(canary))
    for path in pickled:
        good = path.read_bytes()
        path.write_bytes(evil)
        if path.name == "training_args.bin":  # written, never read
            trainer(tiny_model, tmp_path / "work").train(resume_from_checkpoint=str(checkpoint))
        else:
            with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
                trainer(tiny_model, tmp_path / "work").train(resume_from_checkpoint=str(checkpoint))
        path.write_bytes(good)
    assert not canary.exists()


def test_a_pickle_in_a_checkpoint_of_lightning_runs_nothing(tmp_path: Path, canary: Path) -> None:
    """As pretraining resumes: tests/security/unsafe.py checks that weights_only=True is there."""
    (tmp_path / "step.ckpt").write_bytes(saved_by_torch(Evil(canary)))
    quiet = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_steps=1
    )
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        quiet.fit(BoringModel(), ckpt_path=tmp_path / "step.ckpt", weights_only=True)
    assert not canary.exists()
