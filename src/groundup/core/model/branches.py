"""Rows of several replies to one prompt, which is computed once for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import GPT2Model, LlamaModel, MistralModel, PreTrainedModel, Qwen2Model, Qwen3Model
from transformers.models.llama.modeling_llama import LlamaAttention

from groundup.core.model.forward import fast_pass, is_plain, require_positions

DECODERS = (LlamaModel, MistralModel, Qwen2Model, Qwen3Model, GPT2Model)  # each has a test


@dataclass(frozen=True)
class Branches:
    """Tokens of a prompt and of the replies that each follow it."""

    prompt: list[int]
    replies: list[list[int]]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> "Branches":
        """The prompt is what all sequences begin with, but for the last token of each."""
        columns = zip(*(sequence[:-1] for sequence in sequences), strict=False)
        shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
        return cls(list(sequences[0][:shared]), [list(sequence[shared:]) for sequence in sequences])

    @property
    def num_tokens(self) -> int:
        return len(self.prompt) + sum(map(len, self.replies))


@dataclass(frozen=True)
class BranchRows:
    """A row for each of some Branches: the prompt, then its replies, padded on the right to T tokens."""

    ids: Tensor  # [B, T]
    positions: Tensor  # [B, T]; those of every reply continue the prompt's
    visible: Tensor  # [B, 1, T, T]: a reply sees the prompt and itself
    spans: list[tuple[int, int, int]]  # (row, first column, column behind the last one) of each reply

    @classmethod
    def of(cls, items: Sequence[Branches]) -> "BranchRows":
        width = max(item.num_tokens for item in items)
        ids, positions = torch.zeros(2, len(items), width, dtype=torch.long)
        branch = torch.full((len(items), width), -1)  # 0 for the prompt, then a number per reply, -1 for padding
        spans = []
        for row, item in enumerate(items):
            start = 0
            for number, part in enumerate([item.prompt, *item.replies]):
                end = start + len(part)
                ids[row, start:end] = torch.tensor(part, dtype=torch.long)
                positions[row, start:end] = torch.arange(len(part)) + (len(item.prompt) if number else 0)
                branch[row, start:end] = number
                if number:
                    spans.append((row, start, end))
                start = end
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        visible = causal & ((branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None]))
        return cls(ids, positions, visible[:, None], spans)

    def inputs(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Keywords of a forward pass, for rows of what `as_rows` gives."""
        found = {"input_ids": self.ids}
        if takes_branches(model):  # else a row is one sequence, in which what is causal sees no padding
            found |= {"attention_mask": self.visible, "position_ids": self.positions}
        return {name: tensor.to(model.device) for name, tensor in found.items()}


class BranchAttention:
    """For the fast pass: the tokens of some Branches one after the other, of each the prompt and then its replies."""

    def __init__(self, items: Sequence[Branches], device: torch.device) -> None:
        self.lengths = [item.num_tokens for item in items]
        rows = [BranchRows.of([item]) for item in items]
        self.masks = [row.visible.to(device) for row in rows]
        self.ids = torch.cat([row.ids[0] for row in rows]).to(device)
        self.positions = torch.cat([row.positions[0] for row in rows]).to(device)
        starts = accumulate(self.lengths[:-1], initial=0)
        ends = [start + end - 1 for start, row in zip(starts, rows, strict=True) for _, _, end in row.spans]
        self.ends = torch.tensor(ends, device=device)  # [R] index of the last token of each reply

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        rows = [x.transpose(0, 1).split(self.lengths, dim=1) for x in (queries, keys, values)]
        attended = [
            scaled_dot_product_attention(
                q[None],
                k[None],
                v[None],
                attn_mask=mask,
                dropout_p=block.attention_dropout if block.training else 0.0,
                enable_gqa=queries.shape[1] != keys.shape[1],
            )[0]
            for q, k, v, mask in zip(*rows, self.masks, strict=True)
        ]
        return torch.cat(attended, dim=1).transpose(0, 1)


def reply_states(decoder: PreTrainedModel, items: Sequence[Branches]) -> Tensor:
    """Final hidden states [R, H] of the last token of every reply; decoder: the layers without a head."""
    if is_plain(decoder):
        layout = BranchAttention(items, decoder.device)
        return fast_pass(decoder, layout.ids, layout, layout.ends)
    rows = BranchRows.of(as_rows(decoder, items))
    require_positions(decoder, int(rows.positions.max()) + 1)
    hidden = decoder(**rows.inputs(decoder), use_cache=False).last_hidden_state
    return hidden[[row for row, _, _ in rows.spans], [end - 1 for _, _, end in rows.spans]]


def as_rows(model: PreTrainedModel, items: Sequence[Branches]) -> Sequence[Branches]:
    """The items, or every reply with a prompt of its own where the model needs that."""
    return items if takes_branches(model) else [Branches(item.prompt, [r]) for item in items for r in item.replies]


def takes_branches(model: PreTrainedModel) -> bool:
    """Whether replies can share a prompt's row: where a mask alone decides what a token sees.

    A mask of ours would replace a sliding window's, which counts columns.
    """
    return isinstance(model.base_model, DECODERS) and getattr(model.config, "sliding_window", None) is None
