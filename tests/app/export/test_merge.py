"""What `groundup merge` refuses, and that chat takes what it writes. tests/open_models/test_lora.py merges stages."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.chat.loading import load_assistant, model_path
from groundup.app.export.hf import export_adapter
from groundup.app.export.merge import merge_adapters
from groundup.core.model.llama import save_model
from groundup.core.training.adapters import add_adapter, merge_adapter
from groundup.runner.params.training import LoraParams

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def start(tmp_path: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    save_model(
        tiny_model, tiny_tokenizer, tmp_path / "models/start", "---\nlibrary_name: transformers\n---\n# Start\n"
    )
    return tmp_path / "models/start"


@pytest.fixture
def adapter(
    start: Path, tmp_path: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> Path:
    """As `groundup export --to adapter` writes it."""
    adapted = add_adapter(tiny_model, LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules=["q_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.05)
    card = (start / "README.md").read_text(encoding="utf-8")
    (tmp_path / "sft").mkdir()
    save_model(merge_adapter(adapted, tmp_path / "sft/adapter"), tiny_tokenizer, tmp_path / "sft", card)
    export_adapter(tmp_path / "sft", "sft", tmp_path / "exported")
    return tmp_path / "exported"


def test_chat_takes_the_merged_model_by_its_name(start: Path, adapter: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in start.iterdir()}
    merge_adapters(start, [adapter], tmp_path / "models/merged")
    assert {path.name: path.read_bytes() for path in start.iterdir()} == before
    merged, trained = tmp_path / "models/merged/model.safetensors", tmp_path / "sft/model.safetensors"
    assert merged.read_bytes() == trained.read_bytes()
    assert not (tmp_path / "models/merged/adapter").exists()
    card = (tmp_path / "models/merged/README.md").read_text(encoding="utf-8")
    assert "The model start with the LoRA adapters exported merged into its weights" in card
    path = model_path(tmp_path, "merged")
    assert path == tmp_path / "models/merged"
    assert load_assistant(path, torch.device("cpu")).tokenizer.eos_token == "<|end|>"
    with pytest.raises(ValueError, match="already exists: remove it, or name another place with --as"):
        merge_adapters(start, [adapter], tmp_path / "models/merged")


def test_bf16_is_half_the_bytes(adapter: Path, tmp_path: Path) -> None:
    export_adapter(tmp_path / "sft", "sft", tmp_path / "small", bf16=True)
    whole, small = load_file(adapter / WEIGHTS), load_file(tmp_path / "small" / WEIGHTS)
    assert {name: weight.bfloat16().tolist() for name, weight in whole.items()} == {
        name: weight.tolist() for name, weight in small.items()
    }
    assert {weight.dtype for weight in small.values()} == {torch.bfloat16}


def torn(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def of_another_shape(folder: Path) -> None:
    wider = {name: torch.cat([weight, weight], dim=-1) for name, weight in load_file(folder / WEIGHTS).items()}
    save_file(wider, folder / WEIGHTS)


def half(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({name: weight for name, weight in weights.items() if "layers.1" not in name}, folder / WEIGHTS)


def with_a_weight_too_many(folder: Path) -> None:
    save_file({**load_file(folder / WEIGHTS), "base_model.model.other.weight": torch.zeros(2)}, folder / WEIGHTS)


def not_a_number(folder: Path) -> None:
    save_file({name: weight * torch.nan for name, weight in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)


def of_other_layers(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["c_attn"]}))


def of_another_kind(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}))


def no_json(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (torn, "does not fit the model, or is damaged"),
        (of_another_shape, "does not fit the model, or is damaged"),
        (half, r"does not fit the model: 2 weights are only in one of them, such as base_model.model.model.layers.1"),
        (with_a_weight_too_many, r"1 weights are only in one of them, such as base_model.model.other.weight"),
        (not_a_number, "has 4 weights that are not finite, such as base_model.model"),
        (of_other_layers, "does not fit the model, or is damaged"),
        (of_another_kind, "is damaged: it is not a LoRA adapter"),
        (no_json, "does not fit the model, or is damaged"),
        (pickled, f"it lacks {WEIGHTS}: `groundup export --to adapter` writes such a folder"),
    ],
)
def test_an_adapter_that_is_not_one_of_this_model_is_refused_and_nothing_is_written(
    start: Path, adapter: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(adapter)
    with pytest.raises(ValueError, match=said):
        merge_adapters(start, [adapter], tmp_path / "models/merged")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["start"]


def test_an_adapter_without_a_tokenizer_takes_that_of_the_model(start: Path, adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer.json", "chat_template*"))
    config = tmp_path / "bare/tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": 48}))
    for name, folder in (("with", adapter), ("without", tmp_path / "bare")):
        merge_adapters(start, [folder], tmp_path / "models" / name)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "model.safetensors"):
        assert (tmp_path / "models/without" / name).read_bytes() == (tmp_path / "models/with" / name).read_bytes()
    assert load_assistant(tmp_path / "models/without", torch.device("cpu")).tokenizer.model_max_length == 48
    config.unlink()
    with pytest.raises(ValueError, match=r"bare lacks tokenizer_config\.json, which says how long its chats may be"):
        merge_adapters(start, [tmp_path / "bare"], tmp_path / "models/merged")
    (start / "chat_template.jinja").unlink()
    with pytest.raises(
        ValueError, match=r"bare has no tokenizer\.json, which `groundup export` writes, and .* no chat"
    ):
        merge_adapters(start, [tmp_path / "bare"], tmp_path / "models/merged")
