"""Log-probabilities of the tokens of replies under a model: each is computed once, ever, and kept in a file.

An answer is kept under the hash of the model's digest and of all tokens that it reads, so a rerun with the same text
computes nothing and does not even load the model. Replies to one conversation share a pass over it, where the
architecture takes that: a conversation is several times as long as a reply.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from groundup.core.judging.statistics import Floats
from groundup.core.model.branches import Branches, takes_branches
from groundup.core.model.likelihood import Stretch
from groundup.evaluate.kept import keep, open_kept, read_kept
from groundup.evaluate.model_judge.folder import ModelFolder
from groundup.evaluate.reply_likelihood import batch_scores, num_inputs
from groundup.runner.checkpoints import OneProcess

logger = logging.getLogger(__name__)

FILE = "judge_logprobs.jsonl"
DECIMALS = 5  # other rows in a batch move the digits behind them

Row = tuple[Branches, list[str]]  # with the key of each reply


@dataclass
class KeptLogprobs:
    """Of replies under the model of a folder."""

    folder: ModelFolder
    device: torch.device
    batch_size: int  # replies in a forward pass
    file: Path
    processes: OneProcess = field(default_factory=OneProcess)  # the first one reads and keeps
    model: PreTrainedModel | None = None  # loaded when it is needed
    num_read: int = 0  # tokens that it has read, without padding

    def __post_init__(self) -> None:
        self.known = read_kept(self.file, lambda row: np.array(row["logprobs"], dtype=np.float64))

    def of(self, asked: Sequence[Stretch]) -> list[Floats]:
        """[num_scored] each."""
        keys = [self._key(stretch) for stretch in asked]
        unknown = {key: stretch for key, stretch in zip(keys, asked, strict=True) if key not in self.known}
        if unknown:
            self.known |= self.processes.from_first(lambda: self._read(unknown))
        return [self.known[key] for key in keys]

    def _read(self, unknown: dict[str, Stretch]) -> dict[str, Floats]:
        """What the model gives them; it is kept in the file."""
        self.model = self.model or self.folder.load(self.device)
        rows = share_prompts(unknown, self.batch_size if takes_branches(self.model) else 1)
        num_tokens = sum(num_inputs(row) for row, _ in rows)
        logger.info(
            "evaluate: the judge's model reads %d replies in %d tokens; %d are known",
            *(len(unknown), num_tokens, len(self.known)),
        )
        read = {}
        with open_kept(self.file) as file:
            for batch in in_batches(rows, self.batch_size):
                found = logprobs(self.model, [row for row, _ in batch])
                for name, values in zip((name for _, names in batch for name in names), found, strict=True):
                    if not np.isfinite(values).all():
                        raise ValueError(
                            f"the model in {self.folder.path} (evaluate.model_judge) gives a reply a "
                            "log-probability that is NaN or infinite: it cannot judge in fp32, or it is damaged"
                        )
                    kept = [round(value, DECIMALS) for value in values]
                    keep(file, {"key": name, "logprobs": kept})
                    read[name] = np.array(kept)
        self.num_read += num_tokens
        return read

    def _key(self, stretch: Stretch) -> str:
        parts = [self.folder.digest, stretch.ids, stretch.num_scored]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def share_prompts(asked: dict[str, Stretch], max_replies: int) -> list[Row]:
    """Rows of at most max_replies replies to one prompt, the longest first: memory runs out at once or never."""
    replies: dict[tuple[int, ...], list[str]] = {}
    for name, stretch in asked.items():
        replies.setdefault(tuple(stretch.ids[: -stretch.num_scored]), []).append(name)
    rows = [
        (Branches(list(prompt), [asked[name].ids[-asked[name].num_scored :] for name in some]), some)
        for prompt, names in replies.items()
        for start in range(0, len(names), max_replies)
        for some in [names[start : start + max_replies]]
    ]
    return sorted(rows, key=lambda row: num_inputs(row[0]), reverse=True)


def in_batches(rows: Sequence[Row], batch_size: int) -> Iterator[list[Row]]:
    """Of at most batch_size replies, whose tokens take the memory."""
    batch: list[Row] = []
    for row in rows:
        if batch and sum(len(names) for _, names in batch) + len(row[1]) > batch_size:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def logprobs(model: PreTrainedModel, batch: Sequence[Branches]) -> list[list[float]]:
    """Of each reply's tokens, in one forward pass."""
    return [(-score.token_nats).tolist() for scores in batch_scores(model, batch) for score in scores]
