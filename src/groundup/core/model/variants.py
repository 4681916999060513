"""Llamas with other positions or attention; importing this module registers them with transformers.

Their weights have the names and shapes of a plain Llama but another meaning, so they have their own model type,
whose name says what to import: transformers' error for an unknown type shows it.
"""

from typing import Any, ClassVar, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)

from groundup.core.model import linear_attention

CARD = """
## Loading

This is not a plain Llama: {what}. Run `import groundup.core.model.variants` before
`AutoModelForCausalLM.from_pretrained` or `AutoModelForSequenceClassification.from_pretrained`; programs that only know
Llama cannot run it.
"""
WHAT = {
    "sinusoidal": "it adds sinusoidal positions to the embeddings",
    "linear": "its attention is linear",
}


@strict
class GroundupLlamaConfig(LlamaConfig):
    model_type = "llama_needs_import_groundup.core.model.variants"
    auto_map: ClassVar[dict[str, str]] = {}  # TRL reads it for every model type that transformers does not have

    position: Literal["rope", "sinusoidal"] = "rope"
    attention: Literal["softmax", "linear"] = "softmax"


def is_linear(config: LlamaConfig) -> bool:
    return isinstance(config, GroundupLlamaConfig) and config.attention == "linear"


def is_sinusoidal(config: LlamaConfig) -> bool:
    return isinstance(config, GroundupLlamaConfig) and config.position == "sinusoidal"


def differences(config: LlamaConfig) -> list[str]:
    """How a model differs from a plain Llama, in words."""
    if not isinstance(config, GroundupLlamaConfig):
        return []
    return [WHAT[value] for value in (config.position, config.attention) if value in WHAT]


def loading_note(config: LlamaConfig) -> str:
    """The section that a model card adds; empty for a plain Llama."""
    what = differences(config)
    return CARD.format(what=" and ".join(what)) if what else ""


def sinusoids(positions: Tensor, size: int) -> Tensor:
    """[...] -> [..., size]: sin(p / 10000^(2i / size)) at 2i and the cosine at 2i + 1 (Vaswani et al. 2017, 3.5)."""
    exponents = torch.arange(0, size, 2, device=positions.device) / size
    angles = positions[..., None].float() / 10000**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def add_sinusoids(embedded: Tensor, positions: Tensor) -> Tensor:
    """Embeddings [..., H] of tokens at positions [...], scaled by sqrt(H) as in the paper, so that both matter."""
    size = embedded.shape[-1]
    return embedded * size**0.5 + sinusoids(positions, size).to(embedded.dtype)


class NoRotation(nn.Module):
    """Replaces the rotary embedding: cosines and sines of angle 0."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*position_ids.shape, self.head_dim)
        return x.new_ones(shape), x.new_zeros(shape)


class GroundupLlamaModel(LlamaModel):
    config_class = GroundupLlamaConfig

    def __init__(self, config: GroundupLlamaConfig) -> None:
        if is_linear(config):
            config._attn_implementation = linear_attention.NAME  # transformers does not keep it in config.json
        super().__init__(config)
        if is_sinusoidal(config):
            self.rotary_emb = NoRotation(config.head_dim)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        **options: Any,  # passed to transformers
    ) -> Any:
        if is_sinusoidal(self.config):
            embedded = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
            if position_ids is None:
                num_past = 0 if past_key_values is None else past_key_values.get_seq_length()
                position_ids = torch.arange(num_past, num_past + embedded.shape[1], device=embedded.device)[None]
            input_ids, inputs_embeds = None, add_sinusoids(embedded, position_ids)
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **options,
        )


class GroundupLlamaForCausalLM(LlamaForCausalLM):
    config_class = GroundupLlamaConfig

    def __init__(self, config: GroundupLlamaConfig) -> None:
        super().__init__(config)
        self.model = GroundupLlamaModel(config)
        self.post_init()


class GroundupLlamaForSequenceClassification(LlamaForSequenceClassification):
    config_class = GroundupLlamaConfig


AutoConfig.register(GroundupLlamaConfig.model_type, GroundupLlamaConfig)
AutoModel.register(GroundupLlamaConfig, GroundupLlamaModel)
AutoModelForCausalLM.register(GroundupLlamaConfig, GroundupLlamaForCausalLM)
AutoModelForSequenceClassification.register(GroundupLlamaConfig, GroundupLlamaForSequenceClassification)
