"""Log-probabilities of the tokens of replies under a model: each is computed once, ever, and kept in a file.

An answer is kept under the hash of the model's digest and of all tokens that it reads, so a rerun with the same text
computes nothing and does not even load the model.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from groundup.core.model.likelihood import Stretch, batches_by_length
from groundup.evaluate.kept import keep, open_kept, read_kept
from groundup.evaluate.model_judge.folder import ModelFolder

logger = logging.getLogger(__name__)

FILE = "judge_logprobs.jsonl"
DECIMALS = 5  # other rows in a batch move the digits behind them


@dataclass
class KeptLogprobs:
    """Of replies under the model of a folder."""

    folder: ModelFolder
    device: torch.device
    batch_size: int
    file: Path
    model: PreTrainedModel | None = None  # loaded when it is needed

    def __post_init__(self) -> None:
        self.known = read_kept(self.file, lambda row: np.array(row["logprobs"], dtype=np.float64))

    def of(self, asked: Sequence[Stretch]) -> list[NDArray[np.float64]]:
        """[num_scored] each."""
        keys = [self._key(stretch) for stretch in asked]
        unknown = {key: stretch for key, stretch in zip(keys, asked, strict=True) if key not in self.known}
        if unknown:
            logger.info("evaluate: the judge's model reads %d replies; %d are known", len(unknown), len(self.known))
            names, stretches = list(unknown), list(unknown.values())
            self.model = self.model or self.folder.load(self.device)
            with open_kept(self.file) as file:
                for batch in batches_by_length(stretches, self.batch_size):
                    found = scored_logprobs(self.model, [stretches[i] for i in batch])
                    for i, logprobs in zip(batch, found, strict=True):
                        if not np.isfinite(logprobs).all():
                            raise ValueError(
                                f"the model in {self.folder.path} (evaluate.model_judge) gives a reply a "
                                "log-probability that is NaN or infinite: it cannot judge in fp32, or it is damaged"
                            )
                        values = [round(value, DECIMALS) for value in logprobs]
                        keep(file, {"key": names[i], "logprobs": values})
                        self.known[names[i]] = np.array(values)
        return [self.known[key] for key in keys]

    def _key(self, stretch: Stretch) -> str:
        parts = [self.folder.digest, stretch.ids, stretch.num_scored]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@torch.no_grad()
def scored_logprobs(model: PreTrainedModel, batch: Sequence[Stretch]) -> Iterator[list[float]]:
    """Of each stretch's scored tokens, in one forward pass: the model's own, since some scale or cap the logits."""
    ends = [len(stretch.ids) - 1 for stretch in batch]  # the last token is predicted and no input
    width, first = max(ends), min(end - s.num_scored for end, s in zip(ends, batch, strict=True))
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    for row, stretch in enumerate(batch):
        ids[row, : ends[row]] = torch.tensor(stretch.ids[:-1])
    # Attention is causal and padding is on the right, so no token sees it.
    logits = model(ids.to(model.device), use_cache=False, logits_to_keep=width - first).logits  # [B, width - first, V]
    if logits.shape[1] != width - first:  # such a model would be read at the wrong places
        raise ValueError(f"{type(model).__name__} (evaluate.model_judge) ignores logits_to_keep: take another model")
    for row, stretch in enumerate(batch):
        end = ends[row] - first
        scores = logits[row, end - stretch.num_scored : end].float().log_softmax(-1)  # [num_scored, V]
        tokens = torch.tensor(stretch.ids[-stretch.num_scored :], device=scores.device)
        yield scores.gather(-1, tokens[:, None])[:, 0].tolist()
