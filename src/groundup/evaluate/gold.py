"""Figures by the gold judge, which no training stage uses: an independent check of the reward's gains.

Intervals are over prompts and over judges, since both come from samples of conversations.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.formats.records import Message
from groundup.core.judging.gates import NUM_ITEMS
from groundup.core.judging.judge import Agreement, Judge
from groundup.core.judging.pairs import reply_pairs
from groundup.core.judging.statistics import Floats, wins
from groundup.core.judging.word_judge import WordJudge
from groundup.core.rollout.prompts import Prompt
from groundup.core.training.runtime import draw
from groundup.evaluate.controls import Control, choose_controls, with_control, with_every_control, with_replies
from groundup.evaluate.intervals import (
    Metrics,
    joint_interval,
    rate,
    resamples,
    weighted_mean,
    with_judge_interval,
)
from groundup.evaluate.length_control import win_rate_metrics
from groundup.evaluate.model_judge.judge import ModelJudge
from groundup.evaluate.model_judge.logprobs import KeptLogprobs
from groundup.evaluate.replies import ModelReplies
from groundup.evaluate.shown import ENDS, TIE
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.params.judge import JudgeParams

logger = logging.getLogger(__name__)

WIN_RATE, HUMAN_WIN_RATE = "win_rate_vs_sft_gold", "win_rate_human_vs_sft_gold"
UNCENTRED = "{}_uncentred"
NUM_MOVES = 10  # of replies to every prompt, each from another conversation
OPENING = "_within_opening"


@dataclass(frozen=True)
class Absent:
    """Why there is no judge."""

    reason: str


def load_gold_judge(folder: Path, params: JudgeParams) -> Judge | Absent:
    """Absent, with a warning, without data to fit on; the report then has no gold figures and says so."""
    rows = read_conversations(folder)
    try:
        return WordJudge.fit(rows, params)
    except ValueError as error:
        return absent(str(error))


def load_model_judge(folder: Path, logprobs: KeptLogprobs, params: EvaluateParams) -> Judge | Absent:
    """The same by a language model, without pairs to test it on."""
    pairs = [pair for pair in reply_pairs(read_conversations(folder), params.gold_judge) if len(pair.given) > 1]
    if not pairs:
        return absent("the judge split holds no reply of a person beside one from another conversation")
    drawn = draw(pairs, params.model_judge.num_pairs, params.gold_judge.seed)
    return ModelJudge.of(logprobs, drawn, params.model_judge.num_others, params.gold_judge)


def read_conversations(folder: Path) -> list[Row]:
    return list(read_jsonl(folder / "conversations.jsonl", ("id", "messages")))


def absent(reason: str) -> Absent:
    logger.warning("evaluate: no gold figures: %s", reason)
    return Absent(reason)


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


@dataclass(frozen=True)
class Contest:
    """Replies of two players to the same prompts."""

    prompts: Sequence[Prompt]
    ours: Sequence[str]
    theirs: Sequence[str]

    @classmethod
    def of_people(cls, prompts: Sequence[Prompt], sft: ModelReplies) -> "Contest":
        """Against SFT, on the prompts that a person answered."""
        answered = [
            (prompt, prompt.human_reply, text)
            for prompt, text in zip(prompts, sft["texts"], strict=True)
            if prompt.human_reply is not None
        ]
        return cls([row[0] for row in answered], [row[1] for row in answered], [row[2] for row in answered])

    @classmethod
    def of_points(cls, points: Sequence[Row]) -> "Contest":
        """The kept policy against SFT, on align's validation prompts."""
        kept, start = (
            sorted((row for row in points if chosen(row)), key=lambda row: int(row["prompt"]))
            for chosen in (lambda row: row["kept"], lambda row: row["iteration"] == 0)
        )
        prompts = [Prompt(row["conversation_id"], row["messages"], ids=[]) for row in start]
        return cls(prompts, [row["reply"] for row in kept], [row["reply"] for row in start])

    def drawn(self, limit: int | None, seed: int) -> "Contest":
        """On at most `limit` of the prompts."""
        chosen = draw(list(range(len(self.prompts))), limit, seed)
        ours, theirs = ([replies[i] for i in chosen] for replies in (self.ours, self.theirs))
        return Contest([self.prompts[i] for i in chosen], ours, theirs)

    def scores(self, judge: Judge) -> tuple[Floats, Floats]:
        """[1 + R, N] of both players."""
        ours, theirs = (judge.score_by_resample(chats(self.prompts, said)) for said in (self.ours, self.theirs))
        return ours, theirs

    def weights(self, params: EvaluateParams) -> Floats:
        """[S, N]"""
        ids = [prompt.conversation_id for prompt in self.prompts]
        return resamples(ids, params.bootstrap_samples, params.seed)


def human_metrics(judge: Judge, prompts: Sequence[Prompt], sft: ModelReplies, params: EvaluateParams) -> Metrics:
    """The reference for all models: people's replies to the same prompts. Empty if there are none."""
    contest = Contest.of_people(prompts, sft)
    if not contest.prompts:
        return {}
    human, before = contest.scores(judge)
    weights = contest.weights(params)
    return {
        **with_judge_interval("gold_reward_human", human, weights, weighted_mean),
        **rate(with_judge_interval(HUMAN_WIN_RATE, wins(human, before), weights, weighted_mean)),
        "num_human_replies": len(contest.prompts),
    }


def win_rate(name: str, judge: Judge, contest: Contest, params: EvaluateParams) -> Metrics:
    return rate(with_judge_interval(name, wins(*contest.scores(judge)), contest.weights(params), weighted_mean))


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

    def make(self, contest: Contest) -> Contest:
        ours, theirs = ([replies[j] for j in self.of] for replies in (contest.ours, contest.theirs))
        return Contest([contest.prompts[i] for i in self.to], ours, theirs)


def moved_win_rate(name: str, judge: Judge, contest: Contest, params: EvaluateParams, within_opening: bool) -> Metrics:
    """The same replies, both moved to another conversation (with the same opening), and by how much the win rate where
    they belong is above that: what is due to the conversation. Empty without a conversation to move to.
    """
    moves = Moves.draw(contest.prompts, params.seed, within_opening)
    if not moves.to:
        return {}
    elsewhere = moves.make(contest)
    judge.read_ahead([*chats(elsewhere.prompts, elsewhere.ours), *chats(elsewhere.prompts, elsewhere.theirs)])
    own, moved = wins(*contest.scores(judge)), wins(*elsewhere.scores(judge))
    weights = contest.weights(params)
    # A move counts as often as both of its conversations are drawn: its reply varies too.
    of_moves = weights[:, moves.to] * weights[:, moves.of]
    drawn = of_moves.any(axis=1)
    weights, of_moves = weights[drawn], of_moves[drawn]
    above = float(own[0].mean() - moved[0].mean())
    interval = joint_interval(
        above,
        weighted_mean(own[0], weights=weights) - weighted_mean(moved[0], weights=of_moves),
        own[1:].mean(axis=1) - moved[1:].mean(axis=1),
    )
    suffix = OPENING if within_opening else ""
    figure = f"{name}_above_moved{suffix}"
    return {
        **rate(with_judge_interval(f"{name}_moved{suffix}", moved, of_moves, weighted_mean)),
        **dict(zip((figure + end for end in ENDS), (above, *interval), strict=True)),
        f"{figure}{NUM_ITEMS}": len(contest.prompts),
    }


def opening_of(prompt: Prompt) -> str | None:
    first = prompt.messages[0]
    return first["content"] if first["role"] == "system" else None


def control_metrics(
    judge: Judge,
    controls: Mapping[str, Control],
    models: Contest,
    people: Contest,
    params: EvaluateParams,
) -> Metrics:
    """What a win of the aligned model is worth: its replies and people's elsewhere, and replies that read nothing."""
    metrics: Metrics = {}
    limit = control_limit(params)
    for within in (False, True):
        for name, contest in ((WIN_RATE, models), (HUMAN_WIN_RATE, people)):
            metrics |= moved_win_rate(name, judge, contest.drawn(limit, params.seed), params, within)
    for name, control in controls.items():
        replies = [control(prompt.messages) for prompt in models.prompts]
        contest = Contest(models.prompts, replies, models.theirs)
        metrics |= win_rate(f"win_rate_{name}_vs_sft_gold", judge, contest, params)
    fooled = [name for name in controls if metrics[f"win_rate_{name}_vs_sft_gold_ci_low"] > TIE]
    return metrics | {"num_controls_that_win": len(fooled)}


def control_limit(params: EvaluateParams) -> int | None:
    """Prompts on which controls are chosen, and on which replies are moved; all of them for a judge that is cheap."""
    return params.model_judge.num_control_prompts if params.judge == "model" else None


def all_gold_metrics(
    judge: Judge,
    prompts: Sequence[Prompt],
    sft: ModelReplies,
    aligned: ModelReplies,
    points: Sequence[Row],
    params: EvaluateParams,
) -> Metrics:
    """Figures with their controls, then both by the uncentred judge, which shows that the controls can fail.

    The judge's mean is taken over the prompts at hand. points: align's evaluation points.
    """
    models, people = Contest(prompts, aligned["texts"], sft["texts"]), Contest.of_people(prompts, sft)
    validation = Contest.of_points(points)
    here, there = (
        judge.centred_on([prompt.messages for prompt in contest.prompts]) for contest in (models, validation)
    )
    plain = judge.uncentred()
    chosen_on = validation.drawn(control_limit(params), params.seed)
    messages = [prompt.messages for prompt in chosen_on.prompts]
    there.read_ahead([*chats(chosen_on.prompts, chosen_on.theirs), *with_every_control(messages)])
    controls, of_plain = (choose_controls(chooser, messages, chosen_on.theirs) for chooser in (there, plain))
    here.read_ahead(
        [
            *chats(prompts, models.ours),
            *chats(prompts, models.theirs),
            *chats(people.prompts, people.ours),
            *(
                chat
                for control in (*controls.values(), *of_plain.values())
                for chat in with_control(control, [prompt.messages for prompt in prompts])
            ),
        ]
    )
    uncentred = {
        **win_rate(WIN_RATE, plain, models, params),
        **human_metrics(plain, prompts, sft, params),
        **control_metrics(plain, of_plain, models, people, params),
    }
    return {
        **gold_metrics(here, prompts, sft, aligned, params),
        **human_metrics(here, prompts, sft, params),
        **control_metrics(here, controls, models, people, params),
        **named_uncentred(uncentred),
        **win_rate(f"val_{WIN_RATE}", there, validation, params),
    }


def named_uncentred(figures: Metrics) -> Metrics:
    """Win rates and the number of controls that win, under names that say so."""
    named = {}
    for name, value in figures.items():
        ends = (*filter(None, ENDS), NUM_ITEMS)
        figure, end = next(((name.removesuffix(e), e) for e in ends if name.endswith(e)), (name, ""))
        if figure.startswith(("win_rate", "num_controls")):
            named[UNCENTRED.format(figure) + end] = value
    return named


def chats(prompts: Sequence[Prompt], replies: Sequence[str]) -> list[list[Message]]:
    return with_replies([prompt.messages for prompt in prompts], replies)
