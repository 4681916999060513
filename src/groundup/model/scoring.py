"""The scoring interface of reward models, shared by reward, align, evaluate and decoding."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from groundup.model import variational


class RewardScorer:
    """Scores whole chats with a reward model: `score(sequences) -> mean, std`."""

    def __init__(self, model: PreTrainedModel, batch_size: int = 64) -> None:
        self.model = model.eval()
        self.batch_size = batch_size

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "RewardScorer":
        model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, use_safetensors=True)
        if (path / variational.FILE).is_file():
            model.score = variational.WithUncertainty(model.score, variational.load_head(path))
        return cls(model.to(device).requires_grad_(False))

    def score(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Reward of each token sequence (a rendered chat that ends on the end-of-turn token): mean [N], std [N].

        std is zero without a variational head: the linear one has no uncertainty.
        """
        scores = pooled(self.model, sequences, self.batch_size)
        if broken := int((~scores.isfinite().all(dim=1)).sum()):
            raise ValueError(
                f"the reward model scores {broken} of {len(sequences)} chats as NaN or infinite: train it anew with a "
                "lower reward.learning_rate"
            )
        mean = scores[:, variational.MEAN]
        return mean, scores[:, variational.STD] if scores.shape[1] > 1 else torch.zeros_like(mean)


@torch.no_grad()
def pooled(model: PreTrainedModel, sequences: Sequence[Sequence[int]], batch_size: int = 64) -> torch.Tensor:
    """What the model's head gives at the last token of each sequence, [N, K], on the CPU.

    Sequences are batched by length, which changes no score.
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    pad = model.config.pad_token_id
    batches = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids = torch.full((len(rows), len(sequences[rows[-1]])), pad, dtype=torch.long)
        for row, i in enumerate(rows):
            ids[row, : len(sequences[i])] = torch.tensor(sequences[i])
        ids = ids.to(model.device)
        batches.append(model(ids, attention_mask=(ids != pad).long()).logits.float().cpu())
    if not batches:
        return torch.zeros(0, 1)
    values = torch.cat(batches)
    values[order] = values.clone()
    return values
