"""Which model folders are refused before anything trains, and what is said of them; those of other families pass."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from groundup.core.model.check import CAUSAL, REWARD, check_model, require_reward_class
from groundup.core.model.llama import load_causal_lm, save_model
from groundup.core.model.open_model import load_open_model
from groundup.core.model.scoring import RewardScorer
from tests.families import FAMILIES, family_config, family_model

CPU = torch.device("cpu")


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.fixture
def saved(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    save_model(family_model("qwen3", len(tiny_tokenizer)), tiny_tokenizer, tmp_path / "qwen3", "card")
    return tmp_path / "qwen3"


@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_every_family_pass_in_both_kinds_and_half_precision_becomes_fp32(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str
) -> None:
    model = family_model(family, len(tiny_tokenizer) + 3)  # with rows that no token has
    save_model(model.to(torch.bfloat16), tiny_tokenizer, tmp_path / "causal", "card")
    check_model(tmp_path / "causal", CAUSAL)
    loaded = load_causal_lm(tmp_path / "causal", CPU)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    suppressed = loaded.generation_config.suppress_tokens
    assert set(suppressed) >= {len(tiny_tokenizer), len(tiny_tokenizer) + 1, len(tiny_tokenizer) + 2}

    require_reward_class(loaded.config)
    reward = AutoModelForSequenceClassification.from_pretrained(tmp_path / "causal", num_labels=1, dtype=torch.float32)
    save_model(reward, tiny_tokenizer, tmp_path / "reward", "card")
    check_model(tmp_path / "reward", REWARD)
    chats = [[7, 8, 9, 11, 30, 31, 32, 33, 1], [5, 1], [20, 30, 40, 50, 60, 1]]
    means, _ = RewardScorer.load(tmp_path / "reward", CPU).score(chats)
    with torch.no_grad():
        expected = torch.cat([reward(torch.tensor([chat]), use_cache=False).logits[0] for chat in chats])
    torch.testing.assert_close(means, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            "config.json has a quantization_config .*: quantised weights are not supported",
        ),
        (
            {"auto_map": {"AutoModelForCausalLM": "code.Model"}},
            "asks for code of its own .auto_map., and code in the folder is never run: remove",
        ),
        ({"model_type": "surely_unknown"}, "config.json cannot be read"),
        (
            {"model_type": "bert"},
            "config.json is of Qwen3ForCausalLM, not of BertLMHeadModel: take a causal language model",
        ),
        (
            {"model_type": "vit"},
            "Qwen3ForCausalLM, and transformers has no causal language model of the type vit: take another",
        ),
        (
            {"model_type": "gemma3"},
            "the type gemma3, which is more than a decoder of text: take the text-only model of its family",
        ),
        (
            {"architectures": ["Qwen3Model"]},
            "config.json is of Qwen3Model, not of Qwen3ForCausalLM: take a causal language model",
        ),
        ({"vocab_size": 299}, "its tokenizer has 300 tokens and its config 299: they are of different runs"),
        ({"vocab_size": 301}, "missing or have another shape, such as model.embed_tokens.weight"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_is_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    edit(saved, **changes)
    with pytest.raises(ValueError, match=f"the model in {saved} cannot be used: .*{message}"):
        check_model(saved, CAUSAL)


def without_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: edit(folder, hidden_size=64), "have another shape"),
        (without_a_weight, "1 weights that config.json describes are missing, such as model.norm.weight"),
        (with_nan, "1 weights are not finite, such as model.norm.weight"),
        (lambda folder: (folder / "model.safetensors").unlink(), "it has no weights"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "it has no tokenizer.json"),
        (
            lambda folder: edit(folder, quantization_config={"bits": 4}),
            "config.json has a quantization_config .*: quantised weights are not supported",
        ),
        (
            lambda folder: edit(folder, max_position_embeddings=16),
            "model.context_length is 32, above the 16 positions",
        ),
    ],
    ids=["another size", "a weight missing", "nan", "no weights", "no tokenizer", "quantized", "fewer positions"],
)
def test_an_open_model_is_refused_before_it_trains(
    tiny_tokenizer: PreTrainedTokenizerFast, saved: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(saved)
    with pytest.raises(ValueError, match=message):
        load_open_model(saved, tiny_tokenizer, context_length=32)


def test_a_family_without_a_class_for_rewards_is_named() -> None:
    require_reward_class(family_config("qwen3", 300))
    config = family_config("qwen3", 300)
    config.__class__ = type("Other", (type(config),), {"model_type": "other"})
    with pytest.raises(ValueError, match="no reward model can be made of a other: transformers has no class"):
        require_reward_class(config)
