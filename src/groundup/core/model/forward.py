"""Llama's forward pass without padding: the layers' own modules, applied only to what is asked for.

The tokens of all sequences lie one behind another, [N, H], and only attention sees them as rows: linear layers are
most of a small model's work, and what they would do for padding is waste. So is what the last layer would do for
positions that nobody looks at. What comes out is what the stock forward pass computes, but for rounding.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm

from groundup.core.model import linear_attention
from groundup.core.model.linear_attention import RecurrentState
from groundup.core.model.variants import add_sinusoids, is_linear, is_sinusoidal


class Attention(Protocol):
    positions: Tensor  # [N] of each token in its sequence

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[N, heads, D] each -> [N, heads, D]; keys and values may have fewer heads."""


def hidden_states(model: LlamaModel, ids: Tensor, attention: Attention, wanted: Tensor) -> Tensor:
    """Token ids [N] -> final hidden states [W, H] at the places `wanted` [W], each of which is named once."""
    hidden = model.embed_tokens(ids)
    if is_sinusoidal(model.config):
        hidden = add_sinusoids(hidden, attention.positions)
    rotation = rotation_of(model, hidden, attention.positions)
    for i, layer in enumerate(model.layers):
        block = layer.self_attn
        normed = normalize(layer.input_layernorm, hidden)
        queries, keys, values = (
            projection(normed).unflatten(-1, (-1, block.head_dim))
            for projection in (block.q_proj, block.k_proj, block.v_proj)
        )
        attended = attention(block, rotate(queries, *rotation), rotate(keys, *rotation), values).flatten(1)
        if i == len(model.layers) - 1:
            hidden, attended = take(hidden, wanted), take(attended, wanted)
        hidden = hidden + block.o_proj(attended)
        hidden = hidden + layer.mlp(normalize(layer.post_attention_layernorm, hidden))
    return normalize(model.norm, hidden)


def normalize(norm: LlamaRMSNorm, x: Tensor) -> Tensor:
    return rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


def rotation_of(model: LlamaModel, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [N, 1, D] of rotary positions; a sine has the sign of the half that it writes to."""
    cos, sin = (x[0, :, None] for x in model.rotary_emb(hidden, positions[None]))
    half = sin.shape[-1] // 2
    return cos, torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """As transformers' apply_rotary_pos_emb, in half its time: [N, heads, D] -> [N, heads, D]."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed_sin)


class KeyValueCache:
    """Attention of one new token a sequence to all that came before; keys and values in buffers of their final length.

    A sequence has its prompt in the first columns and its new tokens behind the longest prompt's; the gap is masked.
    """

    def __init__(self, prompt_lengths: Sequence[int], max_new_tokens: int, device: torch.device) -> None:
        self.positions = torch.tensor(prompt_lengths, device=device) - 1  # [B] of the newest token
        self.end = max(prompt_lengths)  # columns in use
        self.num_columns = self.end + max_new_tokens
        columns = torch.arange(self.num_columns, device=device)
        visible = (columns >= self.end) | (columns <= self.positions[:, None])
        # [B, 1, 1, num_columns], added to the scores: of a mask of booleans every layer would make this anew.
        self.bias = torch.zeros(visible.shape, device=device).masked_fill(~visible, -torch.inf)[:, None, None]
        self.keys: list[Tensor] = []  # of each layer, [B, heads, num_columns, D]
        self.values: list[Tensor] = []

    def fill(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Those of each prompt in the next layer, [heads, L, D] each."""
        for buffers, rows in ((self.keys, keys), (self.values, values)):
            heads, _, head_dim = rows[0].shape
            # Zeros, not what memory held: a weight of 0 times NaN is NaN.
            buffer = rows[0].new_zeros(len(rows), heads, self.num_columns, head_dim)
            for row, x in zip(buffer, rows, strict=True):
                row[:, : x.shape[1]] = x
            buffers.append(buffer)

    def advance(self) -> None:
        """To the next token of each sequence."""
        self.positions = self.positions + 1
        self.end += 1

    def select(self, rows: Tensor) -> None:
        """Drops all other sequences."""
        self.positions, self.bias = self.positions[rows], self.bias[rows]
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        layer = block.layer_idx
        self.keys[layer][:, :, self.end - 1] = keys
        self.values[layer][:, :, self.end - 1] = values
        attended = scaled_dot_product_attention(
            queries[:, :, None],
            self.keys[layer][:, :, : self.end],
            self.values[layer][:, :, : self.end],
            attn_mask=self.bias[..., : self.end].to(queries.dtype),
            enable_gqa=queries.shape[1] != keys.shape[1],
        )
        return attended[:, :, 0]


Cache = KeyValueCache | RecurrentState


def make_cache(config: LlamaConfig, prompt_lengths: Sequence[int], max_new_tokens: int, device: torch.device) -> Cache:
    """What a model's attention keeps of the tokens before."""
    if is_linear(config):
        return RecurrentState(prompt_lengths, device)
    return KeyValueCache(prompt_lengths, max_new_tokens, device)


class PackedAttention:
    """Causal attention within whole sequences, which may leave in a cache what their next tokens need."""

    def __init__(self, lengths: Sequence[int], device: torch.device, cache: Cache | None = None) -> None:
        self.lengths = list(lengths)
        self.cache = cache
        self.positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
        self.ends = torch.tensor(lengths, device=device).cumsum(0) - 1  # [B] last token of each sequence

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        # One sequence at a time: that is faster than one call on a padded batch, above all backward.
        rows = [x.transpose(0, 1).split(self.lengths, dim=1) for x in (queries, keys, values)]
        if self.cache is not None:
            self.cache.fill(rows[1], rows[2])
        enable_gqa = queries.shape[1] != keys.shape[1]
        linear = is_linear(block.config)
        attended = [
            linear_attention.parallel(q[None], k[None], v[None], visible=None)[0]
            if linear
            else scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=enable_gqa)[0]
            for q, k, v in zip(*rows, strict=True)
        ]
        return torch.cat(attended, dim=1).transpose(0, 1)


class RowAttention:
    """Causal attention in rows of one length, each of several documents that do not see each other."""

    def __init__(self, positions: Tensor) -> None:
        """Of each token in its document, [B, T]."""
        self.shape = positions.shape
        self.positions = positions.flatten()
        documents = (positions == 0).cumsum(-1)
        length = positions.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=positions.device).tril()
        self.visible = (causal & (documents[:, :, None] == documents[:, None, :]))[:, None]  # [B, 1, T, T]

    @cached_property
    def bias(self) -> Tensor:
        """[B, 1, T, T], added to the scores: made once for all layers."""
        return torch.zeros(self.visible.shape, device=self.visible.device).masked_fill(~self.visible, -torch.inf)

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        queries, keys, values = (x.unflatten(0, self.shape).transpose(1, 2) for x in (queries, keys, values))
        if is_linear(block.config):
            attended = linear_attention.parallel(queries, keys, values, self.visible)
        else:
            attended = scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=self.bias.to(queries.dtype),
                enable_gqa=queries.shape[1] != keys.shape[1],
            )
        return attended.transpose(1, 2).flatten(0, 1)


class _Take(torch.autograd.Function):
    """The rows at places. They differ, so that the gradient needs no accumulation, which is slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = x.shape
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy_(0, places, gradient), None


def take(x: Tensor, places: Tensor) -> Tensor:
    """x[places], each place named once."""
    taken: Tensor = _Take.apply(x, places)
    return taken
