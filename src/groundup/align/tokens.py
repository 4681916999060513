"""Replies as tensors, with log-probabilities, KL and values of their tokens."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from groundup.core.model.forward import PackedAttention, hidden_states
from groundup.core.model.generation import next_token_logprobs
from groundup.core.model.head import output_logits


@dataclass(frozen=True)
class TokenBatch:
    """Prompts with their replies, concatenated. N tokens, R of them in replies."""

    ids: Tensor  # [N]
    attention: PackedAttention
    before: Tensor  # [R] position before each reply token, where it is predicted
    targets: Tensor  # [R] the reply tokens
    mask: Tensor  # [B, T]
    features: Tensor | None  # [R, H] features of the reward model's trunk before each reply token

    def by_reply(self, per_token: Tensor) -> Tensor:
        """[R] -> [B, T]"""
        return per_token.new_zeros(self.mask.shape).masked_scatter(self.mask, per_token)


@dataclass(frozen=True)
class Conversations:
    """Prompts with one reply each."""

    prompts: Sequence[Sequence[int]]
    replies: Sequence[Sequence[int]]
    features: Tensor | None = None  # [B, T, H] for a value head on the reward model's trunk

    @cached_property
    def mask(self) -> Tensor:
        """[B, T], T the longest reply."""
        lengths = torch.tensor([len(reply) for reply in self.replies])
        return torch.arange(int(lengths.max())) < lengths[:, None]

    def batches(
        self, rows: Iterable[int], batch_size: int, device: torch.device
    ) -> Iterator[tuple[list[int], TokenBatch]]:
        """The given rows in batches of similar length, each with its row numbers."""
        by_length = sorted(rows, key=lambda i: len(self.prompts[i]) + len(self.replies[i]))
        for start in range(0, len(by_length), batch_size):
            chosen = by_length[start : start + batch_size]
            yield chosen, self._collate(chosen, device)

    def _collate(self, rows: list[int], device: torch.device) -> TokenBatch:
        chats = [[*self.prompts[i], *self.replies[i]] for i in rows]
        ends = accumulate(len(chat) for chat in chats)
        before = [
            place
            for i, end in zip(rows, ends, strict=True)
            for place in range(end - len(self.replies[i]) - 1, end - 1)
        ]
        mask = self.mask[rows]
        return TokenBatch(
            ids=torch.tensor(list(chain.from_iterable(chats)), device=device),
            attention=PackedAttention([len(chat) for chat in chats], device),
            before=torch.tensor(before, device=device),
            targets=torch.tensor([token for i in rows for token in self.replies[i]], device=device),
            mask=mask.to(device),
            features=None if self.features is None else self.features[rows][mask].to(device),
        )


def token_logprobs(model: PreTrainedModel, batch: TokenBatch, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each reply token, and entropy of the distribution it was drawn from, [B, T] each."""
    # Project only the positions that predict a reply token: that projection is a third of a small model's work.
    logits = output_logits(model, hidden_states(model.base_model, batch.ids, batch.attention, batch.before))
    log_distribution = next_token_logprobs(model, logits, temperature)
    logprobs = log_distribution.gather(1, batch.targets[:, None])[:, 0]
    entropy = -(log_distribution.exp() * log_distribution).sum(-1)
    return batch.by_reply(logprobs), batch.by_reply(entropy)


def token_kl(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Single-sample estimate of the KL to the reference, for each token.

    Its sum over a reply is log p(reply) / p_reference(reply): unbiased, but it can be negative for one reply.
    """
    return logprobs - reference_logprobs


def token_values(value_model: nn.Module, batch: TokenBatch) -> Tensor:
    """Value before each reply token, [B, T]."""
    return batch.by_reply(value_model(batch))
