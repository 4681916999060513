"""Log-probabilities of the tokens of replies under a model: each is computed once, ever, and kept in a file.

An answer is kept under the hash of the model's digest and of all tokens that it reads, so a rerun with the same text
computes nothing and does not even load the model. Replies to one conversation share a pass over it, where the
architecture takes that: a conversation is several times as long as a reply.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from groundup.core.judging.statistics import Floats
from groundup.core.model.branches import Branches, takes_branches
from groundup.core.model.likelihood import Stretch
from groundup.core.training.ranks import by_share, num_ranks
from groundup.evaluate.kept import keep, open_kept, read_kept
from groundup.evaluate.model_judge.folder import ModelFolder
from groundup.evaluate.reply_likelihood import batch_scores, num_inputs
from groundup.runner.checkpoints import Processes

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
    processes: Processes = field(default_factory=Processes)  # the first one has the file
    model: PreTrainedModel | None = None  # loaded when it is needed
    num_read: int = 0  # tokens that it has read, without padding

    def __post_init__(self) -> None:
        self.known = self.processes.from_first(lambda: read_kept(self.file, _logprobs_of_row))

    def of(self, asked: Sequence[Stretch]) -> list[Floats]:
        """[num_scored] each."""
        keys = [self._key(stretch) for stretch in asked]
        unknown = {key: stretch for key, stretch in zip(keys, asked, strict=True) if key not in self.known}
        if unknown:
            self._read(unknown)
        return [self.known[key] for key in keys]

    def _read(self, unknown: dict[str, Stretch]) -> None:
        """Have the model read them, and keep what it finds. Ranks share the batches."""
        self.model = self.model or self.folder.load(self.device)
        rows = share_prompts(unknown, self.batch_size if takes_branches(self.model) else 1)
        num_tokens = sum(num_inputs(row) for row, _ in rows)
        logger.info(
            "evaluate: the judge's model reads %d replies in %d tokens; %d are known",
            *(len(unknown), num_tokens, len(self.known)),
        )
        batches = list(in_batches(rows, self.batch_size))
        for start in range(0, len(batches), num_ranks()):
            together = batches[start : start + num_ranks()]
            found = chain.from_iterable(by_share(self._logprobs, together))
            names = [name for batch in together for _, names in batch for name in names]
            self._keep(dict(zip(names, found, strict=True)))
        self.num_read += num_tokens

    def _logprobs(self, batches: Sequence[Sequence[Row]]) -> list[list[list[float]]]:
        assert self.model
        return [logprobs(self.model, [row for row, _ in batch]) for batch in batches]

    def _keep(self, found: dict[str, list[float]]) -> None:
        """By key. A run that is killed later does not read them again."""
        if not all(map(math.isfinite, chain.from_iterable(found.values()))):
            raise ValueError(
                f"the model in {self.folder.path} (evaluate.model_judge) gives a reply a log-probability that is NaN "
                "or infinite: it cannot judge in fp32, or it is damaged"
            )
        kept = {name: [round(value, DECIMALS) for value in values] for name, values in found.items()}
        self.known |= {name: np.array(values) for name, values in kept.items()}
        if self.processes.is_first:
            with open_kept(self.file) as file:
                for name, values in kept.items():
                    keep(file, {"key": name, "logprobs": values})

    def _key(self, stretch: Stretch) -> str:
        parts = [self.folder.digest, stretch.ids, stretch.num_scored]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _logprobs_of_row(row: dict[str, Any]) -> Floats:
    return np.array(row["logprobs"], dtype=np.float64)


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
