"""The gold judge, fitted on conversations that no training stage reads: what the reward model's gains are worth.

Intervals are over other prompts and over another judge: both are conversations that could have been others.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from groundup.data.jsonl import read_jsonl
from groundup.evaluate.length_control import length_controlled_win_rate
from groundup.evaluate.replies import ModelReplies, Prompt
from groundup.frame.params.evaluate import EvaluateParams
from groundup.frame.params.judge import JudgeParams
from groundup.judge import Agreement, Judge, judge_error
from groundup.model.chat_format import Message
from groundup.statistics import resampled_weights, wins

logger = logging.getLogger(__name__)
Floats = NDArray[np.float64]
Metrics = dict[str, float]


class Estimate(Protocol):
    """[S] from values [N] and weights [S, N]."""

    def __call__(self, values: Floats, *, weights: Floats) -> Floats: ...


NORMAL_QUANTILE = 1.96  # 95 %


@dataclass(frozen=True)
class Absent:
    """No judge, and why."""

    reason: str


def load_gold_judge(folder: Path, params: JudgeParams) -> Judge | Absent:
    """Own data need not hold conversations: then there is a report without gold figures that says so."""
    rows = list(read_jsonl(folder / "conversations.jsonl", ("id", "messages")))
    try:
        return Judge.fit(rows, params)
    except ValueError as error:
        logger.warning("evaluate: no gold figures: %s", error)
        return Absent(str(error))


def agreement_metrics(agreement: Agreement) -> Metrics:
    return {
        "judge_agreement": agreement.accuracy,
        "judge_agreement_ci_low": agreement.accuracy_ci_low,
        "judge_agreement_ci_high": agreement.accuracy_ci_high,
        "judge_num_pairs": agreement.num_pairs,
        "judge_num_conversations": agreement.num_conversations,
    }


def gold_metrics(
    judge: Judge,
    prompts: Sequence[Prompt],
    sft: ModelReplies,
    aligned: ModelReplies,
    params: EvaluateParams,
) -> Metrics:
    """Gold scores of both models' replies to the same prompts, and how often the aligned one's is higher."""
    before, after = (judge.score_by_resample(chats(prompts, replies["texts"])) for replies in (sft, aligned))
    won = wins(after, before)
    longer = np.array(
        [len(a) - len(b) for a, b in zip(aligned["tokens"], sft["tokens"], strict=True)], dtype=np.float64
    )
    weights = resamples([prompt.conversation_id for prompt in prompts], params.bootstrap_samples, params.seed)
    metrics = agreement_metrics(judge.agreement)
    for name, values in (("before", before), ("after", after), ("difference", after - before)):
        metrics |= judged(f"gold_reward_{name}", values, weights, weighted_mean)
    win_rate = "win_rate_vs_sft_gold"
    metrics |= win_rate_metrics(win_rate, won, longer, weights)
    return metrics | judged(f"{win_rate}_this_judge", won[:1], weights, weighted_mean)


def win_rate_metrics(name: str, outcomes: Floats, length_differences: Floats, weights: Floats) -> Metrics:
    """As they are and at equal length: outcomes [1 + R, N], differences in tokens [N], weights [S, N]."""
    controlled = partial(length_controlled_win_rate, length_differences=length_differences)
    return {
        **rate(judged(name, outcomes, weights, weighted_mean)),
        **rate(judged(f"{name}_length_controlled", outcomes, weights, controlled)),
    }


def human_metrics(judge: Judge, prompts: Sequence[Prompt], sft: ModelReplies, params: EvaluateParams) -> Metrics:
    """The mark for all models: what people answered to the same prompts. Empty where nobody did."""
    answers = {i: prompt.human_reply for i, prompt in enumerate(prompts) if prompt.human_reply is not None}
    if not answers:
        return {}
    answered = [prompts[i] for i in answers]
    human = judge.score_by_resample(chats(answered, list(answers.values())))
    before = judge.score_by_resample(chats(answered, [sft["texts"][i] for i in answers]))
    weights = resamples([prompt.conversation_id for prompt in answered], params.bootstrap_samples, params.seed)
    return {
        **judged("gold_reward_human", human, weights, weighted_mean),
        **rate(judged("win_rate_human_vs_sft_gold", wins(human, before), weights, weighted_mean)),
        "num_human_replies": len(answered),
    }


def chats(prompts: Sequence[Prompt], replies: Sequence[str]) -> list[list[Message]]:
    return [
        [*prompt.messages, {"role": "assistant", "content": reply}]
        for prompt, reply in zip(prompts, replies, strict=True)
    ]


def resamples(groups: Sequence[str], num_samples: int, seed: int) -> Floats:
    """[S, N]: how often each value counts when the groups are drawn with replacement."""
    return np.array(list(resampled_weights([[group] for group in groups], num_samples, seed)), dtype=np.float64)


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """[S] from [N] and [S, N]."""
    return np.asarray(weights @ values / weights.sum(1))


def rate(metrics: Metrics) -> Metrics:
    """An interval that is added up from two may leave the range."""
    return {name: min(1.0, max(0.0, value)) for name, value in metrics.items()}


def judged(name: str, values: Floats, weights: Floats, estimate: Estimate) -> Metrics:
    """The estimate by the judge of all rows, with its 95 % interval.

    values: [1 + R, N], a row a judge; one row where the judge is taken as it is. weights: [S, N].
    """
    plain = np.ones((1, values.shape[1]))
    estimates = np.array([estimate(row, weights=plain)[0] for row in values])
    low, high = joint_interval(estimates[0], estimate(values[0], weights=weights), estimates[1:])
    return {name: float(estimates[0]), f"{name}_ci_low": low, f"{name}_ci_high": high}


def joint_interval(value: float, on_resamples: Floats, by_judges: Floats) -> tuple[float, float]:
    """95 %, of the estimates on resampled prompts and by resampled judges, if any.

    The errors of prompts and judge are independent, so they add in squares.
    """
    low, high = np.quantile(on_resamples, [0.025, 0.975])
    error = NORMAL_QUANTILE * judge_error(by_judges) if len(by_judges) else 0.0
    return float(value - np.hypot(value - low, error)), float(value + np.hypot(high - value, error))
