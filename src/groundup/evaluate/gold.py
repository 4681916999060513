"""The gold judge, fitted on conversations that no training stage reads: an independent check of the reward's gains.

Intervals are over prompts and over judges, since both come from samples of conversations.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from groundup.core.formats.jsonl import read_jsonl
from groundup.core.formats.records import Message
from groundup.core.judging.judge import Agreement, Judge
from groundup.core.judging.statistics import wins
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.intervals import Metrics, rate, resamples, weighted_mean, with_judge_interval
from groundup.evaluate.length_control import win_rate_metrics
from groundup.evaluate.replies import ModelReplies
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.params.judge import JudgeParams

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Absent:
    """Why there is no judge."""

    reason: str


def load_gold_judge(folder: Path, params: JudgeParams) -> Judge | Absent:
    """Absent, with a warning, without data to fit on; the report then has no gold figures and says so."""
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
    """Gold scores of both models' replies to the same prompts, and the win rate of the aligned model."""
    before, after = (judge.score_by_resample(chats(prompts, replies["texts"])) for replies in (sft, aligned))
    won = wins(after, before)
    longer = np.array(
        [len(a) - len(b) for a, b in zip(aligned["tokens"], sft["tokens"], strict=True)], dtype=np.float64
    )
    weights = resamples([prompt.conversation_id for prompt in prompts], params.bootstrap_samples, params.seed)
    metrics = agreement_metrics(judge.agreement)
    for name, values in (("before", before), ("after", after), ("difference", after - before)):
        metrics |= with_judge_interval(f"gold_reward_{name}", values, weights, weighted_mean)
    win_rate = "win_rate_vs_sft_gold"
    metrics |= win_rate_metrics(win_rate, won, longer, weights)
    return metrics | with_judge_interval(f"{win_rate}_this_judge", won[:1], weights, weighted_mean)


def human_metrics(judge: Judge, prompts: Sequence[Prompt], sft: ModelReplies, params: EvaluateParams) -> Metrics:
    """The reference for all models: people's replies to the same prompts. Empty if there are none."""
    answers = {i: prompt.human_reply for i, prompt in enumerate(prompts) if prompt.human_reply is not None}
    if not answers:
        return {}
    answered = [prompts[i] for i in answers]
    human = judge.score_by_resample(chats(answered, list(answers.values())))
    before = judge.score_by_resample(chats(answered, [sft["texts"][i] for i in answers]))
    weights = resamples([prompt.conversation_id for prompt in answered], params.bootstrap_samples, params.seed)
    return {
        **with_judge_interval("gold_reward_human", human, weights, weighted_mean),
        **rate(with_judge_interval("win_rate_human_vs_sft_gold", wins(human, before), weights, weighted_mean)),
        "num_human_replies": len(answered),
    }


def chats(prompts: Sequence[Prompt], replies: Sequence[str]) -> list[list[Message]]:
    return [
        [*prompt.messages, {"role": "assistant", "content": reply}]
        for prompt, reply in zip(prompts, replies, strict=True)
    ]
