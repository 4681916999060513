"""Replies as tensors, and what policy, reference and value model say about each of their tokens."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from groundup.model.generation import next_token_logprobs
from groundup.train.ppo.models import ValueModel


@dataclass(frozen=True)
class TokenBatch:
    """Prompts with their replies, padded on the right.

    Causal attention never looks right, so no forward pass over them needs an attention mask.
    """

    ids: Tensor  # [B, L] prompt and reply
    before: Tensor  # [N] place in ids.flatten() of the token before each reply token: there it is predicted
    targets: Tensor  # [N] the reply tokens
    mask: Tensor  # [B, T]

    def by_reply(self, per_token: Tensor) -> Tensor:
        """[N] -> [B, T]"""
        return per_token.new_zeros(self.mask.shape).masked_scatter(self.mask, per_token)


@dataclass(frozen=True)
class Conversations:
    """Prompts with one reply each."""

    prompts: Sequence[Sequence[int]]
    replies: Sequence[Sequence[int]]
    pad_token_id: int

    @cached_property
    def mask(self) -> Tensor:
        """[B, T], T the longest reply."""
        lengths = torch.tensor([len(reply) for reply in self.replies])
        return torch.arange(int(lengths.max())) < lengths[:, None]

    def batches(
        self, rows: Iterable[int], batch_size: int, device: torch.device
    ) -> Iterator[tuple[list[int], TokenBatch]]:
        """The given rows in batches of similar length, which saves padding; each with the rows it holds."""
        by_length = sorted(rows, key=lambda i: len(self.prompts[i]) + len(self.replies[i]))
        for start in range(0, len(by_length), batch_size):
            chosen = by_length[start : start + batch_size]
            yield chosen, self._collate(chosen, device)

    def _collate(self, rows: list[int], device: torch.device) -> TokenBatch:
        chats = [[*self.prompts[i], *self.replies[i]] for i in rows]
        width = max(len(chat) for chat in chats)
        before = [
            row * width + position - 1
            for row, i in enumerate(rows)
            for position in range(len(self.prompts[i]), len(chats[row]))
        ]
        return TokenBatch(
            ids=torch.tensor([chat + [self.pad_token_id] * (width - len(chat)) for chat in chats], device=device),
            before=torch.tensor(before, device=device),
            targets=torch.tensor([token for i in rows for token in self.replies[i]], device=device),
            mask=self.mask[rows].to(device),
        )


def token_logprobs(model: LlamaForCausalLM, batch: TokenBatch, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each reply token and entropy of the distribution it was drawn from, [B, T] each."""
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    # Only what predicts a reply token meets the vocabulary: that projection is a third of a small model's work.
    logits = model.lm_head(hidden.flatten(0, 1).index_select(0, batch.before))
    log_distribution = next_token_logprobs(model, logits, temperature)
    logprobs = log_distribution.gather(1, batch.targets[:, None])[:, 0]
    entropy = -(log_distribution.exp() * log_distribution).sum(-1)
    return batch.by_reply(logprobs), batch.by_reply(entropy)


def token_values(value_model: ValueModel, batch: TokenBatch) -> Tensor:
    """Value before each reply token, [B, T]."""
    return batch.by_reply(value_model(batch.ids).flatten().index_select(0, batch.before))
