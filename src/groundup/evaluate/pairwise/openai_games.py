"""The games of all checkpoints, judged by a model at an OpenAI-compatible URL: both orders, within a budget."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from groundup.core.training.runtime import draw
from groundup.evaluate.intervals import Metrics
from groundup.evaluate.pairwise.games import Games
from groundup.evaluate.pairwise.server import judge_server
from groundup.evaluate.pairwise.tournament import Entrants, Standings, standings
from groundup.evaluate.pairwise.verdicts import Comparison, Referee
from groundup.runner.params.evaluate import EvaluateParams

logger = logging.getLogger(__name__)


@dataclass
class Tally:
    """Counts of verdicts."""

    num_verdicts: int = 0
    num_unclear: int = 0
    num_pairs: int = 0  # of clear verdicts, one for each order
    num_consistent: int = 0

    def figures(self, cost: float) -> Metrics:
        consistency = {"position_consistency_openai": self.num_consistent / self.num_pairs} if self.num_pairs else {}
        return consistency | {
            "num_verdicts_openai": self.num_verdicts,
            "num_unclear_verdicts_openai": self.num_unclear,
            "cost_dollars_openai": cost,
        }


def openai_standings(params: EvaluateParams, kept: Path, entrants: Entrants) -> Standings:
    """As openai_games has them played; kept: the file that keeps them."""
    referee = Referee(params.openai, *judge_server(params.openai), kept)
    games, tally = openai_games(referee, entrants, params)
    found = standings("openai", games, ["sft", "base"], entrants, params)
    return replace(found, metrics=found.metrics | tally.figures(referee.cost))


def openai_games(referee: Referee, entrants: Entrants, params: EvaluateParams) -> tuple[list[Games], Tally]:
    """Play each comparison in both orders. Each of align's points plays against the SFT model and the next point."""
    test, validation = entrants.test, entrants.validation
    points = list(validation.replies)
    schedule = [
        (test, ("aligned", "sft")),
        (test, ("aligned", "base")),
        (test, ("sft", "base")),
        (test, ("human", "sft")),
        *((validation, (point, points[0])) for point in points[1:]),
        *((validation, (later, earlier)) for earlier, later in pairwise(points[1:])),
    ]
    games = [Games(prompts, *players, np.full((1, len(prompts.messages)), np.nan)) for prompts, players in schedule]
    tally = Tally()
    # Prompt by prompt, so that all players have as many games when the budget runs out.
    drawn = {
        prompts.name: draw(list(range(len(prompts.messages))), params.openai.num_prompts, params.seed)
        for prompts in (test, validation)
    }
    for turn in range(params.openai.num_prompts):
        meetings = [(played, drawn[played.prompts.name][turn : turn + 1]) for played in games]
        if not play(referee, [(played, i) for played, places in meetings for i in places], tally):
            logger.warning(
                "evaluate: evaluate.openai.max_cost_dollars is reached after %d of %d prompts: figures are on these",
                turn,
                params.openai.num_prompts,
            )
            break
    logger.info("evaluate: %d verdicts requested, the others were known", referee.num_asked)
    if referee.is_spent and not tally.num_verdicts:
        raise ValueError(
            "evaluate.openai.max_cost_dollars is too low for the verdicts on one prompt: raise it, or set "
            "evaluate.judge to builtin"
        )
    return games, tally


def play(referee: Referee, meetings: Sequence[tuple[Games, int]], tally: Tally) -> bool:
    """Fill in the outcomes; False if the budget does not suffice. Identical replies tie without a request."""
    asked: list[tuple[Games, int]] = []
    comparisons: list[Comparison] = []
    for games, i in meetings:
        first, second = (games.prompts.replies[player][i] for player in (games.first, games.second))
        if first is None or second is None:
            continue
        if first == second:
            games.outcomes[0, i] = 0.5
            continue
        asked.append((games, i))
        messages = games.prompts.messages[i]
        comparisons += [Comparison(messages, first, second), Comparison(messages, second, first)]
    verdicts = referee.judge(comparisons)
    if verdicts is None:
        return False
    for (games, i), forth, back in zip(asked, verdicts[::2], verdicts[1::2], strict=True):
        one, other = forth.outcome, back.outcome
        tally.num_verdicts += 2
        tally.num_unclear += (one is None) + (other is None)
        if one is not None and other is not None:
            tally.num_pairs += 1
            tally.num_consistent += one == 1 - other
        one, other = (0.5 if outcome is None else outcome for outcome in (one, other))
        games.outcomes[0, i] = (one + 1 - other) / 2
    return True
