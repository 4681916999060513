"""Attention caches of running replies, which come and go; those present are always the first rows."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import LlamaModel, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaAttention

from groundup.core.model.cache import KeyValueCache, StockCache, by_keys, prefill_fast
from groundup.core.model.forward import fast_pass, is_plain

FIRST_COLUMNS = 512  # of the buffers: enough for most replies


class Slots:
    """For a plain Llama: each reply has its own length, in buffers that grow up to `num_slots` whole contexts.

    Values after a row's length are left from other replies; they are finite and masked, so their weight is 0.
    """

    def __init__(self, model: LlamaModel, num_slots: int) -> None:
        config, device = model.config, model.device
        self.model = model
        self.num_slots = num_slots
        self.context_length = config.max_position_embeddings
        num_columns = min(self.context_length, FIRST_COLUMNS)
        shape = (num_slots, config.num_key_value_heads, num_columns, config.head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(shape, device=device) for _ in layers]
        self.values = [torch.zeros(shape, device=device) for _ in layers]
        self.columns = torch.arange(num_columns, device=device)
        self.clear()

    def clear(self) -> None:
        """Free all slots."""
        self._set_lengths([])

    def _set_lengths(self, lengths: list[int]) -> None:
        """Set the number of tokens of each row; the newest token is the one that attends next."""
        self.lengths = lengths
        self.positions = torch.tensor(lengths, dtype=torch.long, device=self.columns.device) - 1
        self.end = max(lengths, default=0)
        self._reserve(self.end)
        self.rows = torch.arange(len(lengths), device=self.columns.device)
        self.visible = (self.columns[: self.end] <= self.positions[:, None])[:, None, None]  # [B, 1, 1, end]

    def _reserve(self, length: int) -> None:
        """Make room for a reply of this length; most are far shorter than the context of a large model."""
        present = len(self.columns)
        if length <= present:
            return
        num_columns = min(self.context_length, max(length, 2 * present))
        more = (0, 0, 0, num_columns - present)
        self.keys = [pad(keys, more) for keys in self.keys]
        self.values = [pad(values, more) for values in self.values]
        self.columns = torch.arange(num_columns, device=self.columns.device)

    def join(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> Tensor:
        """Append sequences, each from one of the prompts; returns final hidden states [B, H] of their last tokens."""
        cache, hidden = prefill_fast(self.model, prompts, 0)
        for row in rows:
            self._add(cache, row, len(prompts[row]))
        return hidden[list(rows)]

    def _add(self, prompts: KeyValueCache, row: int, length: int) -> None:
        slot = len(self.lengths)
        self._reserve(length)
        for buffers, filled in ((self.keys, prompts.keys), (self.values, prompts.values)):
            for buffer, prompt in zip(buffers, filled, strict=True):
                buffer[slot, :, :length] = prompt[row, :, :length]
        self._set_lengths([*self.lengths, length])

    def remove(self, row: int) -> None:
        """Remove a row; the last row takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            for buffers in (self.keys, self.values):
                for buffer in buffers:
                    buffer[row, :, : self.lengths[last]] = buffer[last, :, : self.lengths[last]]
        lengths = list(self.lengths)
        lengths[row] = lengths[last]
        self._set_lengths(lengths[:last])

    def step(self, ids: Tensor) -> Tensor:
        """The next token of each sequence [B] -> its final hidden states [B, H]."""
        self._set_lengths([length + 1 for length in self.lengths])
        return fast_pass(self.model, ids, self, self.rows)

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        layer = block.layer_idx
        self.keys[layer][self.rows, :, self.positions] = keys
        self.values[layer][self.rows, :, self.positions] = values
        attended = scaled_dot_product_attention(
            by_keys(queries, keys),
            self.keys[layer][: len(self.rows), :, : self.end],
            self.values[layer][: len(self.rows), :, : self.end],
            attn_mask=self.visible,
        )
        return attended.flatten(1, 2)


class StockSlots:
    """The same for other models, by transformers; whenever a reply joins or leaves, the cache is copied."""

    def __init__(self, model: PreTrainedModel, num_slots: int) -> None:
        self.model = model
        self.num_slots = num_slots
        self.clear()

    def clear(self) -> None:
        self.cache: StockCache | None = None

    def join(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> Tensor:
        cache, hidden = StockCache.of(self.model, prompts)
        chosen = torch.tensor(rows, device=hidden.device)
        cache.select(chosen)
        if self.cache is None:
            self.cache = cache
        else:
            self.cache.join(cache)
        return hidden[chosen]

    def step(self, ids: Tensor) -> Tensor:
        assert self.cache is not None
        return self.cache.step(ids)

    def remove(self, row: int) -> None:
        assert self.cache is not None
        rows = list(range(len(self.cache.mask)))
        rows[row] = rows[-1]
        if len(rows) == 1:
            self.clear()
        else:
            self.cache.select(torch.tensor(rows[:-1], device=self.cache.mask.device))


def make_slots(decoder: PreTrainedModel, num_slots: int) -> Slots | StockSlots:
    return Slots(decoder, num_slots) if is_plain(decoder) else StockSlots(decoder, num_slots)
