"""Small random causal language models of several families of transformers, and their configs."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

WINDOW = 4  # of sliding attention, shorter than the tests' sequences
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
CONFIGS: dict[str, Callable[..., PreTrainedConfig]] = {
    "llama-tied": lambda **ids: LlamaConfig(**SHAPE, tie_word_embeddings=True, **ids),
    "llama-untied": lambda **ids: LlamaConfig(**SHAPE, tie_word_embeddings=False, attention_bias=True, **ids),
    "qwen2": lambda **ids: Qwen2Config(**SHAPE, tie_word_embeddings=True, **ids),
    "qwen3": lambda **ids: Qwen3Config(**SHAPE, tie_word_embeddings=True, **ids),
    "mistral": lambda **ids: MistralConfig(**SHAPE, sliding_window=WINDOW, **ids),
    # One layer with a window, one without; logits are capped where random weights reach.
    "gemma3": lambda **ids: Gemma3TextConfig(
        **SHAPE,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
        final_logit_softcapping=2.0,
        query_pre_attn_scalar=8,
        **ids,
    ),
    "gpt2": lambda **ids: GPT2Config(n_embd=32, n_inner=48, n_layer=2, n_head=4, n_positions=128, **ids),
}
FAMILIES = list(CONFIGS)


def family_config(family: str, vocab_size: int, **changes: Any) -> PreTrainedConfig:
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "initializer_range": 0.3}
    return CONFIGS[family](vocab_size=vocab_size, **{**ids, **changes})


def family_model(family: str, vocab_size: int = 70, **changes: Any) -> PreTrainedModel:
    """With weights so large that every input matters, norms and biases included."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(family_config(family, vocab_size, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()
