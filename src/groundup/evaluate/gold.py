"""The gold judge, fitted on conversations that no training stage reads: an independent check of the reward's gains.

Intervals are over prompts and over judges, since both come from samples of conversations.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.formats.records import Message
from groundup.core.judging.gates import NUM_ITEMS
from groundup.core.judging.judge import Agreement, Judge
from groundup.core.judging.statistics import wins
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.controls import choose_controls, with_replies
from groundup.evaluate.intervals import (
    Metrics,
    joint_interval,
    rate,
    resamples,
    weighted_mean,
    with_judge_interval,
)
from groundup.evaluate.length_control import win_rate_metrics
from groundup.evaluate.replies import ModelReplies
from groundup.evaluate.shown import ENDS
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.params.judge import JudgeParams

logger = logging.getLogger(__name__)

WIN_RATE, HUMAN_WIN_RATE = "win_rate_vs_sft_gold", "win_rate_human_vs_sft_gold"
UNCENTRED = "{}_uncentred"
TIE = 0.5
NUM_MOVES = 10  # of replies to every prompt, each from another conversation
OPENING = "_within_opening"


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
    metrics |= win_rate_metrics(WIN_RATE, won, longer, weights)
    return metrics | with_judge_interval(f"{WIN_RATE}_this_judge", won[:1], weights, weighted_mean)


def human_metrics(judge: Judge, prompts: Sequence[Prompt], sft: ModelReplies, params: EvaluateParams) -> Metrics:
    """The reference for all models: people's replies to the same prompts. Empty if there are none."""
    answered, human, before = answered_by_people(prompts, sft)
    if not answered:
        return {}
    scores = judge.score_by_resample(chats(answered, human))
    weights = resamples([prompt.conversation_id for prompt in answered], params.bootstrap_samples, params.seed)
    return {
        **with_judge_interval("gold_reward_human", scores, weights, weighted_mean),
        **win_rate("win_rate_human_vs_sft_gold", judge, answered, human, before, params),
        "num_human_replies": len(answered),
    }


def answered_by_people(prompts: Sequence[Prompt], sft: ModelReplies) -> tuple[list[Prompt], list[str], list[str]]:
    """The prompts that a person answered, these answers, and SFT's replies."""
    found = [
        (prompt, prompt.human_reply, text)
        for prompt, text in zip(prompts, sft["texts"], strict=True)
        if prompt.human_reply is not None
    ]
    return [row[0] for row in found], [row[1] for row in found], [row[2] for row in found]


def win_rate(
    name: str,
    judge: Judge,
    prompts: Sequence[Prompt],
    ours: Sequence[str],
    theirs: Sequence[str],
    params: EvaluateParams,
) -> Metrics:
    """Of `ours` against `theirs`, replies to the same prompts."""
    won = wins(*(judge.score_by_resample(chats(prompts, replies)) for replies in (ours, theirs)))
    weights = resamples([prompt.conversation_id for prompt in prompts], params.bootstrap_samples, params.seed)
    return rate(with_judge_interval(name, won, weights, weighted_mean))


@dataclass(frozen=True)
class Moves:
    """Replies to N prompts, each moved to NUM_MOVES prompts of other conversations: M moves."""

    to: list[int]  # [M] the prompt that a reply goes to
    of: list[int]  # [M] the prompt that it was given to

    @classmethod
    def draw(cls, prompts: Sequence[Prompt], seed: int, within_opening: bool) -> "Moves":
        """Without moves, if no prompt has another conversation (with the same opening) to take a reply from."""
        rng = np.random.default_rng(seed)
        moves = cls([], [])
        for i, prompt in enumerate(prompts):
            sources = [
                j
                for j, other in enumerate(prompts)
                if other.conversation_id != prompt.conversation_id
                and (not within_opening or opening_of(other) == opening_of(prompt) is not None)
            ]
            if sources:
                moves.to.extend([i] * NUM_MOVES)
                moves.of.extend(sources[k] for k in rng.integers(len(sources), size=NUM_MOVES))
        return moves


def moved_win_rate(
    name: str,
    judge: Judge,
    prompts: Sequence[Prompt],
    ours: Sequence[str],
    theirs: Sequence[str],
    params: EvaluateParams,
    within_opening: bool,
) -> Metrics:
    """The same replies, both moved to another conversation (with the same opening), and by how much the win rate where
    they belong is above that: what is due to the conversation. Empty without a conversation to move to.
    """
    moves = Moves.draw(prompts, params.seed, within_opening)
    if not moves.to:
        return {}
    there = [prompts[i] for i in moves.to]
    moved, own = (
        wins(*(judge.score_by_resample(chats(of, replies)) for replies in sides))
        for of, sides in (
            (there, [[replies[j] for j in moves.of] for replies in (ours, theirs)]),
            (prompts, [ours, theirs]),
        )
    )
    weights = resamples([prompt.conversation_id for prompt in prompts], params.bootstrap_samples, params.seed)
    # A move counts as often as both of its conversations are drawn: its reply varies too.
    of_moves = weights[:, moves.to] * weights[:, moves.of]
    drawn = of_moves.any(axis=1)
    weights, of_moves = weights[drawn], of_moves[drawn]
    above = joint_interval(
        float(own[0].mean() - moved[0].mean()),
        weighted_mean(own[0], weights=weights) - weighted_mean(moved[0], weights=of_moves),
        own[1:].mean(axis=1) - moved[1:].mean(axis=1),
    )
    figure = f"{name}_above_moved{OPENING if within_opening else ''}"
    return {
        **rate(
            with_judge_interval(f"{name}_moved{OPENING if within_opening else ''}", moved, of_moves, weighted_mean)
        ),
        **dict(zip((figure + end for end in ENDS), (float(own[0].mean() - moved[0].mean()), *above), strict=True)),
        f"{figure}{NUM_ITEMS}": len(prompts),
    }


def opening_of(prompt: Prompt) -> str | None:
    first = prompt.messages[0]
    return first["content"] if first["role"] == "system" else None


def control_metrics(
    judge: Judge,
    chooser: Judge,
    prompts: Sequence[Prompt],
    sft: ModelReplies,
    aligned: ModelReplies,
    points: Sequence[Row],
    params: EvaluateParams,
) -> Metrics:
    """What a win of the aligned model is worth: its replies and people's elsewhere, and replies that read nothing.

    points: align's evaluation points; the controls are chosen by `chooser` on SFT's replies to validation prompts
    among them.
    """
    texts, answers = (sft["texts"], aligned["texts"]), answered_by_people(prompts, sft)
    metrics: Metrics = {}
    for within in (False, True):
        metrics |= moved_win_rate(WIN_RATE, judge, prompts, texts[1], texts[0], params, within)
        if answers[0]:
            metrics |= moved_win_rate(HUMAN_WIN_RATE, judge, *answers, params, within)
    start = [row for row in points if row["iteration"] == 0]
    controls = choose_controls(chooser, [row["messages"] for row in start], [row["reply"] for row in start])
    for name, control in controls.items():
        replies = [control(prompt.messages) for prompt in prompts]
        metrics |= win_rate(f"win_rate_{name}_vs_sft_gold", judge, prompts, replies, texts[0], params)
    fooled = [name for name in controls if metrics[f"win_rate_{name}_vs_sft_gold_ci_low"] > TIE]
    return metrics | {"num_controls_that_win": len(fooled)}


def all_gold_metrics(
    judge: Judge,
    prompts: Sequence[Prompt],
    sft: ModelReplies,
    aligned: ModelReplies,
    points: Sequence[Row],
    params: EvaluateParams,
) -> Metrics:
    """Figures with their controls, then both by the uncentred judge, which shows that the controls can fail.

    judge: its mean is taken over the prompts at hand.
    """
    here = judge.centred_on([prompt.messages for prompt in prompts])
    start = [row["messages"] for row in points if row["iteration"] == 0]
    metrics = {
        **gold_metrics(here, prompts, sft, aligned, params),
        **human_metrics(here, prompts, sft, params),
        **control_metrics(here, judge.centred_on(start), prompts, sft, aligned, points, params),
    }
    plain = judge.uncentred()
    uncentred = {
        **win_rate(WIN_RATE, plain, prompts, aligned["texts"], sft["texts"], params),
        **human_metrics(plain, prompts, sft, params),
        **control_metrics(plain, plain, prompts, sft, aligned, points, params),
    }
    return metrics | named_uncentred(uncentred) | validation_metrics(judge.centred_on(start), points, params)


def named_uncentred(figures: Metrics) -> Metrics:
    """Win rates and the number of controls that win, under names that say so."""
    named = {}
    for name, value in figures.items():
        figure, end = next(((name.removesuffix(e), e) for e in ENDS if e and name.endswith(e)), (name, ""))
        if figure.startswith(("win_rate", "num_controls")):
            named[UNCENTRED.format(figure) + end] = value
    return named


def validation_metrics(judge: Judge, points: Sequence[Row], params: EvaluateParams) -> Metrics:
    """The win rate of the kept policy on align's validation prompts: choose settings by it, not by test prompts."""
    start, kept = (
        sorted((row for row in points if chosen(row)), key=lambda row: int(row["prompt"]))
        for chosen in (lambda row: row["iteration"] == 0, lambda row: row["kept"])
    )
    won = wins(
        *(
            judge.score_by_resample(with_replies([r["messages"] for r in rows], [r["reply"] for r in rows]))
            for rows in (kept, start)
        )
    )
    weights = resamples([row["conversation_id"] for row in start], params.bootstrap_samples, params.seed)
    return rate(with_judge_interval(f"val_{WIN_RATE}", won, weights, weighted_mean))


def chats(prompts: Sequence[Prompt], replies: Sequence[str]) -> list[list[Message]]:
    return with_replies([prompt.messages for prompt in prompts], replies)
