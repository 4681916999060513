"""Scores of reward models, for reward, align, evaluate and decoding."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from groundup.core.model import variational
from groundup.core.model.branches import Branches, as_rows, reply_states
from groundup.core.model.forward import PackedAttention, hidden_states
from groundup.core.model.verify import verify_scores

BATCH_SIZE = 16
PASS_TOKENS = 4096  # in one pass: a prompt may have any number of replies


class RewardScorer:
    """Scores whole chats with a reward model: `score(sequences) -> mean, std`."""

    def __init__(self, model: PreTrainedModel, batch_size: int = BATCH_SIZE) -> None:
        self.model = model.eval()
        self.head: torch.nn.Module = model.score
        self.batch_size = batch_size

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "RewardScorer":
        model = AutoModelForSequenceClassification.from_pretrained(
            path, num_labels=1, dtype=torch.float32, use_safetensors=True
        )
        verify_scores(model)
        if (path / variational.FILE).is_file():
            model.score = variational.WithUncertainty(model.score, variational.load_head(path))
        return cls(model.to(device).requires_grad_(False))

    @contextmanager
    def trunk(self) -> Iterator[PreTrainedModel]:
        """The layers without a head, valid only inside the context."""
        yield self.model.base_model

    def score(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Reward of each token sequence (a rendered chat with its end-of-turn token): mean [N], std [N]."""
        return self.read(self.hidden(sequences, [1] * len(sequences)))

    @torch.no_grad()
    def score_replies(self, items: Sequence[Branches]) -> tuple[Tensor, Tensor]:
        """The same of every reply, in the order of the items; a conversation is read once for all its replies."""
        states: list[list[Tensor]] = [[] for _ in items]
        with self.trunk() as trunk:
            num_tokens = [sum(row.num_tokens for row in as_rows(trunk, [item])) for item in items]
            for rows in token_batches(num_tokens, self.batch_size):
                found = iter(reply_states(trunk, [items[i] for i in rows]).cpu())
                for i in rows:
                    states[i] = [next(found)[None] for _ in items[i].replies]
        return self.read(list(chain.from_iterable(states)))

    @torch.no_grad()
    def hidden(self, sequences: Sequence[Sequence[int]], num_last: Sequence[int]) -> list[Tensor]:
        """Final hidden states of the last tokens of each sequence, [num_last, H] each, on the CPU.

        Sequences are batched by length, which does not change scores.
        """
        with self.trunk() as trunk:
            return self._hidden(trunk, sequences, num_last)

    def _hidden(
        self, trunk: PreTrainedModel, sequences: Sequence[Sequence[int]], num_last: Sequence[int]
    ) -> list[Tensor]:
        hidden: list[Tensor] = [torch.empty(0)] * len(sequences)
        for rows in token_batches(list(map(len, sequences)), self.batch_size):
            ids = torch.tensor(list(chain.from_iterable(sequences[i] for i in rows)), device=trunk.device)
            attention = PackedAttention([len(sequences[i]) for i in rows], trunk.device)
            counts = [num_last[i] for i in rows]
            wanted = torch.cat(
                [torch.arange(end - n, end) + 1 for end, n in zip(attention.ends.tolist(), counts, strict=True)]
            )
            states = hidden_states(trunk, ids, attention, wanted.to(trunk.device)).cpu()
            for i, state in zip(rows, states.split(counts), strict=True):
                hidden[i] = state
        return hidden

    @torch.no_grad()
    def read(self, hidden: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Scores from hidden states that end at a chat's last token; std is zero without a variational head."""
        if not hidden:
            return torch.zeros(0), torch.zeros(0)
        last = torch.stack([states[-1] for states in hidden])
        with torch.autocast(self.model.device.type, enabled=False):  # bf16's three digits would make ties
            scores = self.head(last.float().to(self.model.device)).cpu()
        if broken := int((~scores.isfinite().all(dim=1)).sum()):
            raise ValueError(
                f"the reward model scores {broken} of {len(hidden)} chats as NaN or infinite: train it again with a "
                "lower reward.learning_rate"
            )
        mean = scores[:, variational.MEAN]
        return mean, scores[:, variational.STD] if scores.shape[1] > 1 else torch.zeros_like(mean)


def token_batches(num_tokens: Sequence[int], batch_size: int) -> list[list[int]]:
    """Places of items in batches of at most batch_size of them and PASS_TOKENS tokens, or of one larger item."""
    found: list[list[int]] = []
    total = 0
    for place in sorted(range(len(num_tokens)), key=lambda i: num_tokens[i]):
        total += num_tokens[place]
        if not found or len(found[-1]) == batch_size or total > PASS_TOKENS:
            found.append([])
            total = num_tokens[place]
        found[-1].append(place)
    return found
