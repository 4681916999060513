"""One decoding step of a plain Llama: the same result as forward.py, in as few torch calls as possible.

At a few tokens per pass, a call of torch costs more than its arithmetic. So projections of the same input are one
matrix product, and the rotations of all positions are computed once.
"""

import torch
from torch import Tensor
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from groundup.core.model.cache import KeyValueCache
from groundup.core.model.forward import Attention, normalize, rotate, rotation_of
from groundup.core.model.projection import PackedProjection, projection_of


class DecodeStep:
    """A step of `model` with its current weights, most of which are copied."""

    @torch.no_grad()
    def __init__(self, model: LlamaModel, num_positions: int) -> None:
        self.model = model
        self.layers = [_Layer(layer) for layer in model.layers]
        positions = torch.arange(num_positions, device=model.device)
        self.cos, self.signed_sin = rotation_of(model, model.embed_tokens(positions[:1]), positions)

    @property
    def is_packed(self) -> bool:
        """Whether the largest products are oneDNN's."""
        return any(isinstance(layer.gate_up, PackedProjection) for layer in self.layers)

    @torch.no_grad()
    def __call__(self, cache: KeyValueCache, ids: Tensor) -> Tensor:
        """Like cache.step."""
        cache.advance()
        hidden = self.model.embed_tokens(ids)
        cos, signed_sin = self.cos[cache.positions], self.signed_sin[cache.positions]
        for layer in self.layers:
            hidden = layer(hidden, cache, cos, signed_sin)
        return normalize(self.model.norm, hidden)


class _Layer:
    """The parts of a layer that every step needs, looked up once: access to modules and configs is slow."""

    def __init__(self, layer: LlamaDecoderLayer) -> None:
        block, mlp = layer.self_attn, layer.mlp
        self.block, self.activation = block, mlp.act_fn
        self.input = projection_of(block.q_proj, block.k_proj, block.v_proj)
        self.output = projection_of(block.o_proj)
        self.gate_up = projection_of(mlp.gate_proj, mlp.up_proj)
        self.down = projection_of(mlp.down_proj)
        self.norms = layer.input_layernorm, layer.post_attention_layernorm
        num_queries, num_keys = block.config.num_attention_heads, block.config.num_key_value_heads
        self.heads = (num_queries + 2 * num_keys, block.head_dim)
        self.num_queries, self.num_rotated = num_queries, num_queries + num_keys

    def __call__(self, hidden: Tensor, attention: Attention, cos: Tensor, signed_sin: Tensor) -> Tensor:
        before_attention, before_mlp = self.norms
        heads = self.input(normalize(before_attention, hidden)).view(-1, *self.heads)
        rotated = rotate(heads[:, : self.num_rotated], cos, signed_sin)
        attended = attention(
            self.block, rotated[:, : self.num_queries], rotated[:, self.num_queries :], heads[:, self.num_rotated :]
        )
        hidden = self.output.plus(hidden, attended.flatten(1))
        gate, up = self.gate_up(normalize(before_mlp, hidden)).chunk(2, -1)
        return self.down.plus(hidden, self.activation(gate).mul_(up))
