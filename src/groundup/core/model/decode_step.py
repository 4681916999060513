"""One decoding step of a plain Llama: the same result as forward.py, in as few torch calls as possible.

At a few tokens per pass, a call of torch costs more than its arithmetic. So projections of the same input are one
matrix product, and the rotations of all positions are computed once.
"""

import torch
from torch import Tensor, addmm, nn
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from groundup.core.model.cache import KeyValueCache
from groundup.core.model.forward import Attention, normalize, rotate, rotation_of

# From this size on, weights are copied in the order [in, out], where products with a few rows take a third less time.
TRANSPOSED_NUMBERS = 2**18


class DecodeStep:
    """A step of `model` with its current weights, most of which are copied."""

    @torch.no_grad()
    def __init__(self, model: LlamaModel, num_positions: int) -> None:
        self.model = model
        self.layers = [_Layer(layer) for layer in model.layers]
        positions = torch.arange(num_positions, device=model.device)
        self.cos, self.signed_sin = rotation_of(model, model.embed_tokens(positions[:1]), positions)

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
        self.input = _side_by_side(block.q_proj, block.k_proj, block.v_proj)
        self.output = _side_by_side(block.o_proj)
        self.gate_up = _side_by_side(mlp.gate_proj, mlp.up_proj)
        self.down = _side_by_side(mlp.down_proj)
        self.norms = layer.input_layernorm, layer.post_attention_layernorm
        num_queries, num_keys = block.config.num_attention_heads, block.config.num_key_value_heads
        self.heads = (num_queries + 2 * num_keys, block.head_dim)
        self.num_queries, self.num_rotated = num_queries, num_queries + num_keys

    def __call__(self, hidden: Tensor, attention: Attention, cos: Tensor, signed_sin: Tensor) -> Tensor:
        before_attention, before_mlp = self.norms
        heads = _affine_map(normalize(before_attention, hidden), *self.input).view(-1, *self.heads)
        rotated = rotate(heads[:, : self.num_rotated], cos, signed_sin)
        attended = attention(
            self.block, rotated[:, : self.num_queries], rotated[:, self.num_queries :], heads[:, self.num_rotated :]
        )
        hidden = _plus(hidden, attended.flatten(1), *self.output)
        gate, up = _affine_map(normalize(before_mlp, hidden), *self.gate_up).chunk(2, -1)
        return _plus(hidden, self.activation(gate).mul_(up), *self.down)


def _plus(hidden: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """hidden + x weight + bias in one call, except under autocast, which would round the sum too."""
    if bias is None and weight.dtype == hidden.dtype:
        return addmm(hidden, x, weight)
    return hidden + _affine_map(x, weight, bias)


def _affine_map(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight if bias is None else addmm(bias, x, weight)


def _side_by_side(*projections: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Their weights [in, out of all], in autocast's precision if it is on, and biases; a Llama has all or none."""
    weights, biases = zip(*map(_affine, projections), strict=True)
    kind = weights[0].device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weights[0].dtype
    weight = (torch.cat(weights) if len(weights) > 1 else weights[0]).to(dtype).T
    if kind == "cpu" and weight.numel() >= TRANSPOSED_NUMBERS:
        weight = weight.contiguous()
    return weight, None if biases[0] is None else torch.cat(biases).to(dtype)


def _affine(projection: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight [out, in] and bias; of a layer with a LoRA adapter that is switched on, with it."""
    if isinstance(projection, nn.Linear):
        return projection.weight, projection.bias
    from peft.tuners.lora import Linear  # 1 s, which whoever made the adapter has paid

    assert isinstance(projection, Linear)
    base, weight = projection.get_base_layer(), projection.get_base_layer().weight
    if not projection.disable_adapters and not projection.merged:
        for name in projection.active_adapters:
            if name in projection.lora_A:
                weight = weight + projection.get_delta_weight(name)
    return weight, base.bias
