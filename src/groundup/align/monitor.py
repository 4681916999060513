"""The monitor judge, fitted on conversations that no model trains on: an independent check of the reward model."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from groundup.core.formats.jsonl import read_jsonl
from groundup.core.judging.judge import judge_error
from groundup.core.judging.statistics import Floats, clustered_mean
from groundup.core.judging.word_judge import WordJudge
from groundup.runner.params.judge import JudgeParams

logger = logging.getLogger(__name__)


def score_change(before: Floats, after: Floats, clusters: Sequence[str]) -> tuple[float, float]:
    """Mean paired change of scores [1 + R, N], and its standard error over prompts and over judges.

    More prompts do not make a weak judge right: its scores on resamples of its training data show how far it may be
    off as a whole.
    """
    changes = after - before
    mean, over_prompts = clustered_mean(changes[0].tolist(), clusters)
    return mean, math.hypot(over_prompts, judge_error(changes[1:].mean(axis=1)))


def load_monitor(folder: Path, params: JudgeParams) -> WordJudge | None:
    """None, with a warning, without data to fit a judge on: the user's data need not contain conversations."""
    rows = list(read_jsonl(folder / "conversations.jsonl", ("id", "messages")))
    try:
        monitor = WordJudge.fit(rows, params)
    except ValueError as error:
        logger.warning("align: no monitor, so over-optimization will not be detected: %s", error)
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
