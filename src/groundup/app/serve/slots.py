"""What attention keeps of the replies in the making: they come and go, and those present are always the first rows."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention

from groundup.core.model.forward import Cache, KeyValueCache
from groundup.core.model.linear_attention import RecurrentState, recur
from groundup.core.model.variants import is_linear


class Slots:
    """Attention of one new token a sequence, each at its own length, in buffers for `num_slots` whole contexts.

    What a row holds behind its length is left over from others: it is masked, and finite, so it weighs nothing.
    """

    def __init__(self, config: LlamaConfig, num_slots: int, device: torch.device) -> None:
        shape = (num_slots, config.num_key_value_heads, config.max_position_embeddings, config.head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(shape, device=device) for _ in layers]
        self.values = [torch.zeros(shape, device=device) for _ in layers]
        self.columns = torch.arange(config.max_position_embeddings, device=device)
        self.num_slots = num_slots
        self.lengths: list[int] = []
        self.set_lengths([])

    def set_lengths(self, lengths: list[int]) -> None:
        """Tokens that each row holds; the newest of them is the one that attention is asked for."""
        self.lengths = lengths
        self.positions = torch.tensor(lengths, dtype=torch.long, device=self.columns.device) - 1
        self.end = max(lengths, default=0)
        self.rows = torch.arange(len(lengths), device=self.columns.device)
        self.visible = (self.columns[: self.end] <= self.positions[:, None])[:, None, None]  # [B, 1, 1, end]

    def add(self, prompts: Cache, row: int, length: int) -> None:
        """A sequence behind the others, from the row of a cache that its prompt was computed with."""
        assert isinstance(prompts, KeyValueCache)
        slot = len(self.lengths)
        for buffers, filled in ((self.keys, prompts.keys), (self.values, prompts.values)):
            for buffer, prompt in zip(buffers, filled, strict=True):
                buffer[slot, :, :length] = prompt[row, :, :length]
        self.set_lengths([*self.lengths, length])

    def remove(self, row: int) -> None:
        """The last row takes the place of this one."""
        last = len(self.lengths) - 1
        if row != last:
            for buffers in (self.keys, self.values):
                for buffer in buffers:
                    buffer[row, :, : self.lengths[last]] = buffer[last, :, : self.lengths[last]]
        lengths = list(self.lengths)
        lengths[row] = lengths[last]
        self.set_lengths(lengths[:last])

    def advance(self) -> None:
        """To the next token of each sequence."""
        self.set_lengths([length + 1 for length in self.lengths])

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        layer = block.layer_idx
        self.keys[layer][self.rows, :, self.positions] = keys
        self.values[layer][self.rows, :, self.positions] = values
        attended = scaled_dot_product_attention(
            queries[:, :, None],
            self.keys[layer][: len(self.rows), :, : self.end],
            self.values[layer][: len(self.rows), :, : self.end],
            attn_mask=self.visible,
            enable_gqa=queries.shape[1] != keys.shape[1],
        )
        return attended[:, :, 0]


class RecurrentSlots:
    """The same for linear attention: W and z of each layer and sequence."""

    def __init__(self, config: LlamaConfig, num_slots: int, device: torch.device) -> None:
        shape = (num_slots, config.num_key_value_heads, config.head_dim, config.head_dim)
        layers = range(config.num_hidden_layers)
        self.weights = [torch.zeros(shape, device=device) for _ in layers]
        self.normalizers = [torch.zeros(shape[:-1], device=device) for _ in layers]
        self.device = device
        self.num_slots = num_slots
        self.set_lengths([])

    def set_lengths(self, lengths: list[int]) -> None:
        self.lengths = lengths
        self.positions = torch.tensor(lengths, dtype=torch.long, device=self.device) - 1
        self.rows = torch.arange(len(lengths), device=self.device)

    def add(self, prompts: Cache, row: int, length: int) -> None:
        """A sequence behind the others, from the row of a state that its prompt was computed with."""
        assert isinstance(prompts, RecurrentState)
        slot = len(self.lengths)
        for buffers, filled in ((self.weights, prompts.weights), (self.normalizers, prompts.normalizers)):
            for buffer, prompt in zip(buffers, filled, strict=True):
                buffer[slot] = prompt[row]
        self.set_lengths([*self.lengths, length])

    def remove(self, row: int) -> None:
        """The last row takes the place of this one."""
        last = len(self.lengths) - 1
        for buffer in (*self.weights, *self.normalizers):
            buffer[row] = buffer[last]
        lengths = list(self.lengths)
        lengths[row] = lengths[last]
        self.set_lengths(lengths[:last])

    def advance(self) -> None:
        """To the next token of each sequence."""
        self.set_lengths([length + 1 for length in self.lengths])

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        present, layer = len(self.lengths), block.layer_idx
        return recur(self.weights[layer][:present], self.normalizers[layer][:present], queries, keys, values)


def make_slots(config: LlamaConfig, num_slots: int, device: torch.device) -> Slots | RecurrentSlots:
    return (RecurrentSlots if is_linear(config) else Slots)(config, num_slots, device)
