"""The monitor judge: fitted on human ratings that no model was trained on, it watches what the reward model says."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.data.jsonl import read_jsonl
from groundup.frame.params.judge import JudgeParams
from groundup.judge import Agreement, RatingJudge
from groundup.model.chat_format import Message
from groundup.statistics import clustered_mean

logger = logging.getLogger(__name__)

Ratings = NDArray[np.float64]

NUM_GROUPS = 10


class Monitor:
    """A judge, and the same judge fitted without each tenth of its conversations.

    Prompts without number do not make a judge that knows little right: how far it may be off as a whole is what the
    others say (delete-a-group jackknife, Kott 2001).
    """

    def __init__(self, rows: Sequence[dict[str, Any]], params: JudgeParams) -> None:
        whole = RatingJudge.fit(rows, params)
        self.agreement: Agreement = whole.agreement
        cheap = params.model_copy(update={"num_folds": 2, "bootstrap_samples": 1})  # their agreement is not looked at
        parts = [
            RatingJudge.fit([row for i, row in enumerate(rows) if i % NUM_GROUPS != group], cheap)
            for group in range(NUM_GROUPS)
        ]
        self.judges = [whole, *parts]

    def ratings(self, chats: Sequence[Sequence[Message]]) -> Ratings:
        """[1 + NUM_GROUPS, N]: by the whole judge first."""
        return np.stack([judge.score(chats) for judge in self.judges])


def rating_change(before: Ratings, after: Ratings, clusters: Sequence[str]) -> tuple[float, float]:
    """Mean paired change by the whole judge; its standard error, for other prompts and for another judge."""
    changes = after - before
    mean, over_prompts = clustered_mean(changes[0].tolist(), clusters)
    parts = changes[1:].mean(axis=1)
    over_judges = float(np.square(parts - parts.mean()).sum()) * (NUM_GROUPS - 1) / NUM_GROUPS
    return mean, math.sqrt(over_prompts**2 + over_judges)


def load_monitor(folder: Path, params: JudgeParams) -> Monitor | None:
    """None, with a word in the log, where there is nothing to fit a judge on: own data need not be rated."""
    rows = list(read_jsonl(folder / "conversations.jsonl", ("messages", "rating")))
    if not rows:
        logger.info("align: no rated conversations to monitor with: over-optimisation will go unnoticed")
        return None
    try:
        monitor = Monitor(rows, params)
    except ValueError as error:
        logger.warning("align: no monitor, over-optimisation will go unnoticed: %s", error)
        return None
    agreement = monitor.agreement
    logger.info(
        "align: the monitor agrees with %d held-out ratings by a rank correlation of %.2f (%.2f to %.2f)",
        agreement.num_conversations,
        agreement.spearman,
        agreement.spearman_ci_low,
        agreement.spearman_ci_high,
    )
    return monitor
