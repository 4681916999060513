"""Caches of attention keys and values, so that a pass computes only the next token."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, LlamaModel, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaAttention

from groundup.core.model.forward import PackedAttention, fast_pass, is_plain, require_positions


class Cache(Protocol):
    """For several sequences, which grow by one token per step."""

    def step(self, ids: Tensor) -> Tensor:
        """The next token of each sequence [B] -> its final hidden states [B, H]."""

    def select(self, rows: Tensor) -> None:
        """Keep only these sequences; a row that is given twice is duplicated."""


def prefill(model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> tuple[Cache, Tensor]:
    """A cache of the prompts, and the final hidden states [B, H] of their last tokens."""
    if not is_plain(model):
        return StockCache.of(model, prompts)
    return prefill_fast(model, prompts, max_new_tokens)


def prefill_fast(
    model: LlamaModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> tuple["KeyValueCache", Tensor]:
    """`prefill` of a plain Llama."""
    lengths = [len(prompt) for prompt in prompts]
    cache = KeyValueCache(model, lengths, max_new_tokens)
    layout = PackedAttention(lengths, model.device, cache.fill)
    ids = torch.tensor(list(chain.from_iterable(prompts)), device=model.device)
    return cache, fast_pass(model, ids, layout, layout.ends)


class StockCache:
    """transformers' cache: prompts are padded on the left, so that the newest tokens are in one column.

    It keeps all columns of every layer, sliding windows too: transformers' masks then hide what is outside of a window
    by its distance, and rows can be dropped and joined without an account of what each window has lost.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.cache = DynamicCache()  # without the config, whose windows would drop columns
        self.mask = torch.empty(0)  # [B, columns], 0 where there is padding

    @classmethod
    def of(cls, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> tuple["StockCache", Tensor]:
        made = cls(model)
        rows = [torch.tensor(prompt, device=model.device) for prompt in prompts]
        ids = pad_sequence(rows, batch_first=True, padding_side="left")
        made.mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
        return made, made._read(ids)

    def step(self, ids: Tensor) -> Tensor:
        self.mask = pad(self.mask, (0, 1), value=1)
        return self._read(ids[:, None])

    def _read(self, ids: Tensor) -> Tensor:
        """Read the last columns, [B, T] -> final hidden states of the last one."""
        if self.mask.shape[1] > getattr(self.model.config, "max_position_embeddings", math.inf):
            require_positions(self.model, int(self.mask.sum(-1).max()))  # a row can be shorter than the columns
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        states: Tensor = self.model(
            input_ids=ids, attention_mask=self.mask, position_ids=positions, past_key_values=self.cache
        ).last_hidden_state
        return states[:, -1]

    def select(self, rows: Tensor) -> None:
        """Keep these rows, without columns that are padding in all of them."""
        self.mask = self.mask[rows]
        unused = int((self.mask.sum(0) == 0).sum())
        self.mask = self.mask[:, unused:]
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[rows][:, :, unused:], layer.values[rows][:, :, unused:]

    def join(self, others: "StockCache") -> None:
        """Append the sequences of another cache."""
        width = max(self.mask.shape[1], others.mask.shape[1])

        def joined(*columns: Tensor) -> Tensor:  # the column is the one before the last dimension
            return torch.cat([pad(x, (0, 0, width - x.shape[-2], 0)) for x in columns])

        self.mask = joined(self.mask[..., None], others.mask[..., None])[..., 0]
        for layer, other in zip(self.cache.layers, others.cache.layers, strict=True):
            layer.keys, layer.values = joined(layer.keys, other.keys), joined(layer.values, other.values)


class KeyValueCache:
    """For a plain Llama, with the attention of one new token per sequence; buffers have their final length.

    A sequence has its prompt in the first columns and its new tokens after the longest prompt; the gap is masked.
    """

    def __init__(self, model: LlamaModel, prompt_lengths: Sequence[int], max_new_tokens: int) -> None:
        device = model.device
        self.model = model
        self.positions = torch.tensor(prompt_lengths, device=device) - 1  # [B] of the newest token
        self.end = max(prompt_lengths)  # columns in use
        self.num_columns = self.end + max_new_tokens
        columns = torch.arange(self.num_columns, device=device)
        visible = (columns >= self.end) | (columns <= self.positions[:, None])
        # [B, 1, 1, num_columns], added to the scores; every layer would derive this again from a boolean mask.
        self.bias = torch.zeros(visible.shape, device=device).masked_fill(~visible, -torch.inf)[:, None, None]
        self.keys: list[Tensor] = []  # of each layer, [B, heads, num_columns, D]
        self.values: list[Tensor] = []

    def fill(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Store keys and values of each prompt for the next layer, [heads, L, D] each.

        Under autocast values are halves but rotated keys are not: attention would round all of them at every step.
        """
        keys = [row.to(values[0].dtype) for row in keys]
        for buffers, rows in ((self.keys, keys), (self.values, values)):
            heads, _, head_dim = rows[0].shape
            # zeros instead of uninitialized memory: a weight of 0 times NaN is NaN
            buffer = rows[0].new_zeros(len(rows), heads, self.num_columns, head_dim)
            for row, x in zip(buffer, rows, strict=True):
                row[:, : x.shape[1]] = x
            buffers.append(buffer)

    def advance(self) -> None:
        """Move to the next token of each sequence."""
        self.positions = self.positions + 1
        self.end += 1

    def step(self, ids: Tensor) -> Tensor:
        self.advance()
        return fast_pass(self.model, ids, self, torch.arange(len(ids), device=ids.device))

    def select(self, rows: Tensor) -> None:
        self.positions, self.bias = self.positions[rows], self.bias[rows]
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        layer = block.layer_idx
        self.keys[layer][:, :, self.end - 1] = keys
        self.values[layer][:, :, self.end - 1] = values
        attended = scaled_dot_product_attention(
            by_keys(queries, keys),
            self.keys[layer][:, :, : self.end],
            self.values[layer][:, :, : self.end],
            attn_mask=self.bias[..., : self.end].to(queries.dtype),
        )
        return attended.flatten(1, 2)


def by_keys(queries: Tensor, keys: Tensor) -> Tensor:
    """[B, heads, D] -> [B, kv_heads, heads of each, D]: as if these were several tokens, faster than enable_gqa."""
    return queries.unflatten(1, (keys.shape[1], -1))
