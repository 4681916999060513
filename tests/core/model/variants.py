"""Small random models for all values of model.position, model.attention, num_kv_heads and tie_embeddings."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.model.variants import GroundupLlamaConfig, GroundupLlamaForCausalLM
from tests.llamas import tiny_shape

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}


def make_model(position: str, attention: str, num_kv_heads: int = 4, tie_embeddings: bool = True) -> LlamaForCausalLM:
    """With weights so large that every input matters."""
    torch.manual_seed(0)
    shape = SHAPE | {"num_key_value_heads": num_kv_heads, "tie_word_embeddings": tie_embeddings}
    if (position, attention) == ("rope", "softmax"):
        return LlamaForCausalLM(LlamaConfig(**shape)).eval()
    return GroundupLlamaForCausalLM(GroundupLlamaConfig(**shape, position=position, attention=attention)).eval()


def variant_model(tokenizer: PreTrainedTokenizerFast, initializer_range: float = 0.02) -> GroundupLlamaForCausalLM:
    """All options at once, as large as `tiny_model`."""
    torch.manual_seed(0)
    config = GroundupLlamaConfig(
        **tiny_shape(
            tokenizer,
            hidden_size=64,
            intermediate_size=96,
            tie_word_embeddings=False,
            initializer_range=initializer_range,
        ),
        position="sinusoidal",
        attention="linear",
    )
    return GroundupLlamaForCausalLM(config).eval()
