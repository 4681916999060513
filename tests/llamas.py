"""Shapes of small random models, so that a test names only what matters to it."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def tiny_shape(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> dict[str, Any]:
    """Arguments of a LlamaConfig; weights of this size make every input matter."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | changes


def tiny_llama(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Hidden 64, 2 layers, context 128."""
    torch.manual_seed(0)
    shape = tiny_shape(tokenizer, hidden_size=64, intermediate_size=96, num_attention_heads=2)
    return LlamaForCausalLM(LlamaConfig(**shape)).eval()
