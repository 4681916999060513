"""The scoring interface of reward models, shared by reward, align, evaluate and decoding."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel


class RewardScorer:
    """Scores whole chats with a reward model: `score(sequences) -> mean, std`."""

    def __init__(self, model: PreTrainedModel, batch_size: int = 64) -> None:
        self.model = model.eval()
        self.batch_size = batch_size

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "RewardScorer":
        model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, use_safetensors=True)
        return cls(model.to(device).requires_grad_(False))

    @torch.no_grad()
    def score(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Reward of each token sequence (a rendered chat that ends on the end-of-turn token): mean [N], std [N].

        std is zero: the linear head has no uncertainty. Sequences are batched by length, which changes no score.
        """
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        mean = torch.zeros(len(sequences))
        pad = self.model.config.pad_token_id
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            width = len(sequences[rows[-1]])
            ids = torch.full((len(rows), width), pad, dtype=torch.long)
            for row, i in enumerate(rows):
                ids[row, : len(sequences[i])] = torch.tensor(sequences[i])
            ids = ids.to(self.model.device)
            mean[rows] = self.model(ids, attention_mask=(ids != pad).long()).logits[:, 0].float().cpu()
        if broken := int((~mean.isfinite()).sum()):
            raise ValueError(
                f"the reward model scores {broken} of {len(sequences)} chats as NaN or infinite: train it anew with a "
                "lower reward.learning_rate"
            )
        return mean, torch.zeros_like(mean)
