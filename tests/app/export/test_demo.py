"""`make demo` with a tiny model in the place of the fetched one, and adapters without tokenizers, as in demo/."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from groundup.core.model.llama import load_causal_lm
from groundup.core.training.adapters import add_adapter, merge_adapter
from groundup.runner.params.training import LoraParams
from tests.conftest import ROOT
from tests.families import family_model
from tests.open_tokenizers import open_tokenizer

LORA = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear")
CPU = torch.device("cpu")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Set up, with a fetched model."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for folder in ("stages", ".venv", "demo"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".venv/ready").touch()
    tokenizer = open_tokenizer("smollm2")
    family_model("llama-tied", len(tokenizer), initializer_range=0.1).save_pretrained(tmp_path / "models/smollm2-135m")
    tokenizer.save_pretrained(tmp_path / "models/smollm2-135m")
    return tmp_path


def write_adapters(root: Path, seed: int) -> PreTrainedModel:
    """One on top of the other; the model with both."""
    model = load_causal_lm(root / "models/smollm2-135m", CPU)
    generator = torch.Generator().manual_seed(seed)
    for name in ("sft", "aligned"):
        adapted = add_adapter(model, LORA)
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.data = torch.randn(weight.shape, generator=generator) * 0.05
        model = merge_adapter(adapted, root / "demo" / name)
        (root / "demo" / name / "tokenizer_config.json").write_text('{"model_max_length": 128}')
    return model


def make_demo(root: Path) -> str:
    """What is shown of a chat of one line."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "GROUNDUP_DEVICE": "cpu"}
    result = subprocess.run(
        ["make", "demo"], cwd=root, env=env, input="Do you like music?\n", capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@torch.no_grad()
@pytest.mark.services
def test_the_adapters_are_put_on_the_model_once_and_it_answers(checkout: Path) -> None:
    expected, ids = write_adapters(checkout, seed=0), torch.tensor([[5, 6, 7]])
    first = make_demo(checkout)
    assert "groundup fetch" not in first
    assert "groundup merge smollm2-135m demo/sft demo/aligned --as demo" in first
    found = load_causal_lm(checkout / "models/demo", CPU)
    torch.testing.assert_close(found(ids).logits, expected(ids).logits, atol=1e-5, rtol=1e-4)
    again = make_demo(checkout)
    assert "groundup merge" not in again
    assert again.strip().splitlines()[-1] == first.strip().splitlines()[-1] != "groundup chat --model demo"
    expected = write_adapters(checkout, seed=1)  # as a newer commit brings them
    make_demo(checkout)
    found = load_causal_lm(checkout / "models/demo", CPU)
    torch.testing.assert_close(found(ids).logits, expected(ids).logits, atol=1e-5, rtol=1e-4)
