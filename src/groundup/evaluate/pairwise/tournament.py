"""The games of all checkpoints: base, SFT and aligned model on test prompts, align's points on validation prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from groundup.core.formats.records import Message
from groundup.core.judging.judge import Judge
from groundup.core.judging.statistics import Floats, wins
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.intervals import Metrics, rate, resamples, weighted_mean, with_judge_interval
from groundup.evaluate.pairwise.games import Games, PromptSet, Rating, ratings, win_rates
from groundup.evaluate.replies import ModelReplies
from groundup.runner.params.evaluate import EvaluateParams

BASE_WIN_RATE = "win_rate_base_vs_sft_gold"


@dataclass(frozen=True)
class Entrants:
    test: PromptSet  # base, sft, aligned, human
    validation: PromptSet  # sft, aligned and the points in between, iteration_<n>
    num_tokens: dict[str, list[int]]  # of the replies to test prompts, by model


@dataclass(frozen=True)
class Standings:
    """The result of one judge for all checkpoints."""

    judge: str  # gold or openai
    metrics: Metrics
    ratings: list[Rating]

    def to_json(self) -> dict[str, Any]:
        return {"judge": self.judge, "ratings": [asdict(rating) for rating in self.ratings]}


def make_entrants(
    prompts: Sequence[Prompt], replies: Mapping[str, ModelReplies], points: Sequence[Mapping[str, Any]]
) -> Entrants:
    """points: rows of align's evaluation points; iteration 0 is the SFT model, the kept one the aligned model."""
    names = {row["iteration"]: "aligned" if row["kept"] else f"iteration_{row['iteration']}" for row in points}
    names[0] = "sft"
    first = sorted((row for row in points if row["iteration"] == 0), key=lambda row: int(row["prompt"]))
    by_point = {(row["iteration"], row["prompt"]): str(row["reply"]) for row in points}
    return Entrants(
        test=PromptSet(
            "test",
            [prompt.conversation_id for prompt in prompts],
            [prompt.messages for prompt in prompts],
            {
                **{model: list(answers["texts"]) for model, answers in replies.items()},
                "human": [prompt.human_reply for prompt in prompts],
            },
        ),
        validation=PromptSet(
            "validation",
            [row["conversation_id"] for row in first],
            [row["messages"] for row in first],
            {name: [by_point[iteration, row["prompt"]] for row in first] for iteration, name in sorted(names.items())},
        ),
        num_tokens={model: [len(tokens) for tokens in answers["tokens"]] for model, answers in replies.items()},
    )


def gold_standings(judge: Judge, entrants: Entrants, params: EvaluateParams) -> Standings:
    """Every pair of players. The judge scores each reply alone, so there is no order of the two."""
    games, metrics = [], {}
    for prompts in (entrants.test, entrants.validation):
        here = judge.centred_on(prompts.messages)
        here.read_ahead([chat for replies in prompts.replies.values() for chat in _chats(prompts, replies)])
        scores = {player: _scores(here, prompts, replies) for player, replies in prompts.replies.items()}
        games += [
            Games(prompts, first, second, wins(scores[first], scores[second]))
            for first, second in combinations(scores, 2)
        ]
        if prompts is entrants.test:
            metrics = base_metrics(scores["base"], scores["sft"], prompts, params)
    # evaluate.gold has the aligned model's win rate against the SFT model.
    found = standings("gold", games, ["base"], entrants, params)
    return replace(found, metrics=metrics | found.metrics)


def base_metrics(base: Floats, sft: Floats, prompts: PromptSet, params: EvaluateParams) -> Metrics:
    """Gold scores [1 + R, N] of the base model, and its win rate against the SFT model."""
    weights = resamples(prompts.conversation_ids, params.bootstrap_samples, params.seed)
    return {
        **with_judge_interval("gold_reward_base", base, weights, weighted_mean),
        **rate(with_judge_interval(BASE_WIN_RATE, wins(base, sft), weights, weighted_mean)),
    }


def _scores(judge: Judge, prompts: PromptSet, replies: Sequence[str | None]) -> Floats:
    """[1 + R, N], NaN where there is no reply."""
    given = [i for i, reply in enumerate(replies) if reply is not None]
    found = judge.score_by_resample(_chats(prompts, replies))
    scores = np.full((len(found), len(replies)), np.nan)
    scores[:, given] = found
    return scores


def _chats(prompts: PromptSet, replies: Sequence[str | None]) -> list[list[Message]]:
    return [
        [*messages, {"role": "assistant", "content": reply}]
        for messages, reply in zip(prompts.messages, replies, strict=True)
        if reply is not None
    ]


def standings(
    judge: str, games: Sequence[Games], opponents: Sequence[str], entrants: Entrants, params: EvaluateParams
) -> Standings:
    metrics: Metrics = {}
    for opponent in opponents:
        name = f"win_rate_vs_{opponent}_{judge}"
        tokens = (entrants.num_tokens[player] for player in ("aligned", opponent))
        longer = np.array([a - b for a, b in zip(*tokens, strict=True)], dtype=np.float64)
        metrics |= win_rates(name, against(games, "aligned", opponent), longer, params.bootstrap_samples, params.seed)
    found = ratings([played for played in games if played.played.any()], params.bootstrap_samples, params.seed)
    for rating in found:
        if rating.player in ("base", "aligned", "human"):
            name = f"rating_{rating.player}_{judge}"
            metrics |= {name: rating.rating, f"{name}_ci_low": rating.ci_low, f"{name}_ci_high": rating.ci_high}
    return Standings(judge, metrics, found)


def against(games: Sequence[Games], first: str, second: str) -> Games:
    """The first games of these two, reversed if they were played in the other order."""
    played = next(each for each in games if {each.first, each.second} == {first, second})
    if played.first == first:
        return played
    return Games(played.prompts, first, second, 1 - played.outcomes)
