"""Final hidden states of sequences without padding: a fast pass for a plain Llama, transformers for all others.

The fast pass applies the layers' modules only where needed. The tokens of all sequences are concatenated, [N, H],
and only attention sees them as rows: linear layers are most of a small model's work, and on padding it would be
wasted. So would the last layer's work for positions whose output is not used. The result is that of transformers'
forward pass, except for rounding.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaModel, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm


class Attention(Protocol):
    positions: Tensor  # [N] position of each token in its sequence

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[N, heads, D] each -> [N, heads, D]; keys and values may have fewer heads."""


class Layout(Attention, Protocol):
    """How the tokens of whole sequences form rows."""

    def stock_pass(self, model: PreTrainedModel, ids: Tensor) -> Tensor:
        """Token ids [N] -> final hidden states [N, H] by transformers' own forward pass."""


def is_plain(decoder: PreTrainedModel) -> TypeGuard[LlamaModel]:
    """Whether the fast pass applies; other classes take transformers' forward pass."""
    return type(decoder) is LlamaModel


def require_positions(decoder: PreTrainedModel, length: int) -> None:
    """ValueError if the model has no position for the last token of a sequence."""
    limit = getattr(decoder.config, "max_position_embeddings", None)
    if limit is not None and length > limit:
        raise ValueError(
            f"a sequence of {length} tokens is longer than the {limit} positions of {type(decoder).__name__}: lower "
            "the max_length, max_prompt_tokens or max_new_tokens that made it"
        )


def hidden_states(model: PreTrainedModel, ids: Tensor, layout: Layout, wanted: Tensor) -> Tensor:
    """Token ids [N] -> final hidden states [W, H] at the positions `wanted` [W], which must differ.

    model: the layers without a head, `base_model` of a causal language model or reward model.
    """
    return fast_pass(model, ids, layout, wanted) if is_plain(model) else take(layout.stock_pass(model, ids), wanted)


def fast_pass(model: LlamaModel, ids: Tensor, attention: Attention, wanted: Tensor) -> Tensor:
    """`hidden_states` for a plain Llama."""
    hidden = model.embed_tokens(ids)
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
    """Cosines and sines [N, 1, D] of rotary positions; the sines of the first half are negated."""
    cos, sin = (x[0, :, None] for x in model.rotary_emb(hidden, positions[None]))
    half = sin.shape[-1] // 2
    return cos, torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Like transformers' apply_rotary_pos_emb, in half its time: [N, heads, D] -> [N, heads, D]."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed_sin)


class PackedAttention:
    """Causal attention within whole sequences; `keep` gets each layer's keys and values, [heads, L, D] for each."""

    def __init__(
        self,
        lengths: Sequence[int],
        device: torch.device,
        keep: Callable[[Sequence[Tensor], Sequence[Tensor]], None] | None = None,
    ) -> None:
        self.lengths = list(lengths)
        self.keep = keep
        self.positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
        self.ends = torch.tensor(lengths, device=device).cumsum(0) - 1  # [B] index of the last token of each sequence

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        # One call per sequence is faster than one call on a padded batch, above all backward.
        rows = [x.transpose(0, 1).split(self.lengths, dim=1) for x in (queries, keys, values)]
        if self.keep is not None:
            self.keep(rows[1], rows[2])
        enable_gqa = queries.shape[1] != keys.shape[1]
        attended = [
            scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=enable_gqa)[0]
            for q, k, v in zip(*rows, strict=True)
        ]
        return torch.cat(attended, dim=1).transpose(0, 1)

    def stock_pass(self, model: PreTrainedModel, ids: Tensor) -> Tensor:
        """Attention is causal and padding is on the right, so no token sees it."""
        require_positions(model, max(self.lengths))
        rows = pad_sequence(ids.split(self.lengths), batch_first=True)
        hidden = model(input_ids=rows, use_cache=False).last_hidden_state
        return torch.cat([row[:length] for row, length in zip(hidden, self.lengths, strict=True)])


class RowAttention:
    """Causal attention in rows of equal length, each of several documents that do not see each other."""

    def __init__(self, positions: Tensor) -> None:
        """positions: of each token in its document, [B, T]."""
        self.shape = positions.shape
        self.positions = positions.flatten()

    @cached_property
    def bias(self) -> Tensor:
        """[B, 1, T, T], added to the scores; computed once for all layers."""
        positions = self.positions.view(self.shape)
        documents, length = (positions == 0).cumsum(-1), positions.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=positions.device).tril()
        visible = (causal & (documents[:, :, None] == documents[:, None, :]))[:, None]
        return torch.zeros(visible.shape, device=visible.device).masked_fill(~visible, -torch.inf)

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        queries, keys, values = (x.unflatten(0, self.shape).transpose(1, 2) for x in (queries, keys, values))
        attended = scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=self.bias.to(queries.dtype),
            enable_gqa=queries.shape[1] != keys.shape[1],
        )
        return attended.transpose(1, 2).flatten(0, 1)

    def stock_pass(self, model: PreTrainedModel, ids: Tensor) -> Tensor:
        """Without a mask, transformers derives the start of documents from the positions."""
        require_positions(model, self.shape[1])
        rows, positions = ids.view(self.shape), self.positions.view(self.shape)
        hidden: Tensor = model(input_ids=rows, position_ids=positions, use_cache=False).last_hidden_state
        return hidden.flatten(0, 1)


class _Take(torch.autograd.Function):
    """Rows at distinct positions, so that the gradient needs no accumulation, which is slow."""

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
    """x[places]; the places must differ."""
    taken: Tensor = _Take.apply(x, places)
    return taken
