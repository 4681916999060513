"""Games between players on sets of prompts, and their statistics: win rates at equal length, ratings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.core.formats.records import Message
from groundup.core.judging.statistics import Floats
from groundup.evaluate.intervals import Metrics, joint_interval, resamples
from groundup.evaluate.length_control import win_rate_metrics
from groundup.evaluate.pairwise.bradley_terry import ELO, bradley_terry

SFT_RATING = 1000.0


@dataclass(frozen=True)
class PromptSet:
    """The same prompts answered by several players."""

    name: str  # unique among the sets
    conversation_ids: list[str]
    messages: list[list[Message]]
    replies: dict[str, list[str | None]]  # by player; None where it has no reply


@dataclass(frozen=True)
class Games:
    """All games of two players on one set of prompts."""

    prompts: PromptSet
    first: str
    second: str
    outcomes: Floats  # [1 + R, N], a row per judge: 1 the first won, 0 the second, 0.5 a tie, NaN not played

    @property
    def played(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.outcomes[0])


@dataclass(frozen=True)
class Rating:
    """On Elo's scale, the SFT model at 1000; 95 % interval."""

    player: str
    rating: float
    ci_low: float
    ci_high: float
    num_games: int


def win_rates(name: str, games: Games, length_differences: Floats, num_samples: int, seed: int) -> Metrics:
    """Win rates of the first player; length_differences [N]: its tokens minus the second player's."""
    played = games.played
    weights = resamples(np.array(games.prompts.conversation_ids)[played].tolist(), num_samples, seed)
    return win_rate_metrics(name, games.outcomes[:, played], length_differences[played], weights)


def ratings(all_games: Sequence[Games], num_samples: int, seed: int) -> list[Rating]:
    """Best first. One Bradley-Terry model of all games: players that never met are compared through others.

    Prompts are resampled by conversation, with all games of a prompt; the errors of prompts and judge are
    independent, so they add in squares.
    """
    players = sorted({player for games in all_games for player in (games.first, games.second)})
    num_judges = len(all_games[0].outcomes)
    wins = np.zeros((1 + num_samples + num_judges - 1, len(players), len(players)))
    num_games = dict.fromkeys(players, 0)
    weights_of: dict[str, Floats] = {}
    for games in all_games:
        if games.prompts.name not in weights_of:
            weights_of[games.prompts.name] = resamples(games.prompts.conversation_ids, num_samples, seed)
        first, second = players.index(games.first), players.index(games.second)
        played = games.played
        weights, outcomes = weights_of[games.prompts.name][:, played], games.outcomes[:, played]
        won = np.concatenate([[outcomes[0].sum()], weights @ outcomes[0], outcomes[1:].sum(1)])
        total = np.concatenate([[played.sum()], weights.sum(1), np.full(num_judges - 1, played.sum())])
        wins[:, first, second] += won
        wins[:, second, first] += total - won
        for player in (games.first, games.second):
            num_games[player] += int(played.sum())
    strengths = bradley_terry(wins)
    values = SFT_RATING + ELO * (strengths - strengths[:, [players.index("sft")]])
    found = []
    for player, column in zip(players, values.T, strict=True):
        value, resampled, other_judges = column[0], column[1 : 1 + num_samples], column[1 + num_samples :]
        low, high = joint_interval(value, resampled, other_judges)
        found.append(Rating(player, float(value), low, high, num_games[player]))
    return sorted(found, key=lambda rating: -rating.rating)
