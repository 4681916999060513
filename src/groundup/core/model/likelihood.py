"""Log-likelihood of the last tokens of a sequence under a causal language model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from groundup.core.model.forward import require_positions
from groundup.core.model.head import output_logits

# Logits [N, V] to log-probabilities [N, V]: the model's own distribution, or that of its sampled replies.
Distribution = Callable[[torch.Tensor], torch.Tensor]
HEAD_ROWS = 1024  # positions per pass through the output head, which bounds the memory


@dataclass(frozen=True)
class Stretch:
    """Tokens that fit the context; the last `num_scored` of them are scored, given all before."""

    ids: list[int]
    num_scored: int

    def __post_init__(self) -> None:
        assert 0 < self.num_scored < len(self.ids), "a scored token needs one before it"


def batches_by_length(stretches: Sequence[Stretch], batch_size: int) -> list[list[int]]:
    """Indices grouped by similar length, longest first: little padding, and memory runs out at once or never."""
    order = sorted(range(len(stretches)), key=lambda i: len(stretches[i].ids), reverse=True)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def own_distribution(logits: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1)


def stretch_nats(
    model: PreTrainedModel, stretches: Sequence[Stretch], batch_size: int, distribution: Distribution
) -> list[float]:
    """Negative log-likelihood of each stretch's scored tokens, in nats, in the given order."""
    nats = [0.0] * len(stretches)
    for batch in batches_by_length(stretches, batch_size):
        for i, value in zip(batch, batch_nats(model, [stretches[i] for i in batch], distribution), strict=True):
            nats[i] = value
    return nats


def stretch_token_nats(
    model: PreTrainedModel, stretches: Sequence[Stretch], batch_size: int, distribution: Distribution
) -> list[list[float]]:
    """The same of each scored token."""
    nats: list[list[float]] = [[] for _ in stretches]
    for batch in batches_by_length(stretches, batch_size):
        parts = batch_token_nats(model, [stretches[i] for i in batch], distribution)
        for i, part in zip(batch, parts, strict=True):
            nats[i] = part.tolist()
    return nats


def batch_nats(model: PreTrainedModel, batch: Sequence[Stretch], distribution: Distribution) -> list[float]:
    """stretch_nats of one batch, in one forward pass."""
    return [part.double().sum().item() for part in batch_token_nats(model, batch, distribution)]


@torch.no_grad()
def batch_token_nats(
    model: PreTrainedModel, batch: Sequence[Stretch], distribution: Distribution
) -> tuple[torch.Tensor, ...]:
    """Of each stretch [num_scored], on the CPU: fp64, in which they are added up, mps does not have."""
    width = max(len(stretch.ids) for stretch in batch) - 1
    require_positions(model.base_model, width)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    for row, stretch in enumerate(batch):
        ids[row, : len(stretch.ids) - 1] = torch.tensor(stretch.ids[:-1])
    # Attention is causal and padding is on the right, so no token sees it; without a mask, the fast kernel is used.
    # use_cache=False: the keys and values would not be used.
    hidden = model.base_model(ids.to(model.device), use_cache=False).last_hidden_state  # [B, T, D]
    ends = [len(stretch.ids) - 1 for stretch in batch]
    states = torch.cat([hidden[row, ends[row] - s.num_scored : ends[row]] for row, s in enumerate(batch)])
    targets = torch.tensor([token for s in batch for token in s.ids[-s.num_scored :]], device=model.device)
    nats = token_nats(model, states, targets, distribution).cpu()
    return nats.split([s.num_scored for s in batch])


def token_nats(
    model: PreTrainedModel, states: torch.Tensor, targets: torch.Tensor, distribution: Distribution
) -> torch.Tensor:
    """Negative log-likelihood [N] of the tokens `targets` [N] after final hidden states [N, H]."""
    return torch.cat(
        [
            F.nll_loss(distribution(output_logits(model, rows)), labels, reduction="none")
            for rows, labels in zip(states.split(HEAD_ROWS), targets.split(HEAD_ROWS), strict=True)
        ]
    )
