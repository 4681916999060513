"""The monitor judge: fitted on conversations that no model was trained on, it watches what the reward model says."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundup.core.formats.jsonl import read_jsonl
from groundup.core.judging.judge import Judge, judge_error
from groundup.core.judging.statistics import clustered_mean
from groundup.runner.params.judge import JudgeParams

logger = logging.getLogger(__name__)


def score_change(
    before: NDArray[np.float64], after: NDArray[np.float64], clusters: Sequence[str]
) -> tuple[float, float]:
    """Mean paired change of scores [1 + R, N]; its standard error, for other prompts and for another judge.

    Prompts without number do not make a judge that knows little right: how far it may be off as a whole is what the
    judges of its resamples say.
    """
    changes = after - before
    mean, over_prompts = clustered_mean(changes[0].tolist(), clusters)
    return mean, math.hypot(over_prompts, judge_error(changes[1:].mean(axis=1)))


def load_monitor(folder: Path, params: JudgeParams) -> Judge | None:
    """None, with a word in the log, where there is nothing to fit a judge on: own data need not hold conversations."""
    rows = list(read_jsonl(folder / "conversations.jsonl", ("id", "messages")))
    try:
        monitor = Judge.fit(rows, params)
    except ValueError as error:
        logger.warning("align: no monitor, over-optimisation will go unnoticed: %s", error)
        return None
    agreement = monitor.agreement
    logger.info(
        "align: the monitor finds the reply that a person gave in %.2f (%.2f to %.2f) of %d held-out pairs",
        agreement.accuracy,
        agreement.accuracy_ci_low,
        agreement.accuracy_ci_high,
        agreement.num_pairs,
    )
    return monitor
