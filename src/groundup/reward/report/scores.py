"""Pairs with the reward model's scores of both sides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from transformers import PreTrainedModel

from groundup.core.formats.records import said
from groundup.core.judging.statistics import Floats, wins
from groundup.core.model.branches import Branches
from groundup.core.model.scoring import RewardScorer
from groundup.core.training.adapters import plain
from groundup.core.training.ranks import by_share
from groundup.reward.pairs import PREFERENCE, PREFIX, Pair


@dataclass(frozen=True)
class ScoredPairs:
    """In arrays of two columns, the first is the chosen side."""

    pairs: list[Pair]
    means: Floats  # [N, 2]
    stds: Floats  # [N, 2]

    @classmethod
    def score(cls, scorer: RewardScorer, pairs: Sequence[Pair]) -> "ScoredPairs":
        """Each rank reads its share of the conversations."""
        if not pairs:
            return cls([], np.zeros((0, 2)), np.zeros((0, 2)))
        # A chat is in many pairs, and a conversation in many chats: each is read once.
        chats: dict[tuple[str, ...], set[tuple[int, ...]]] = {}
        for pair in pairs:
            for name, side in (("chosen", pair.chosen), ("rejected", pair.rejected)):
                conversation = tuple(message["content"] for message in pair.row[name][:-1])
                chats.setdefault(conversation, set()).add(tuple(side))
        groups = [sorted(group) for group in chats.values()]
        index = {chat: i for i, chat in enumerate(chain.from_iterable(groups))}
        places = np.array([[index[tuple(pair.chosen)], index[tuple(pair.rejected)]] for pair in pairs])

        def read(own: Sequence[Branches]) -> list[tuple[list[float], list[float]]]:
            sizes = [len(item.replies) for item in own]
            mean, std = ([part.tolist() for part in values.split(sizes)] for values in scorer.score_replies(own))
            return list(zip(mean, std, strict=True))

        found = by_share(read, [Branches.of(group) for group in groups])
        means, stds = (np.array(list(chain.from_iterable(parts))) for parts in zip(*found, strict=True))
        return cls(list(pairs), means[places], stds[places])

    def of_group(self, group: str) -> "ScoredPairs":
        rows = [i for i, pair in enumerate(self.pairs) if pair.group == group]
        return ScoredPairs([self.pairs[i] for i in rows], self.means[rows], self.stds[rows])

    @property
    def right(self) -> Floats:
        """For each pair 1 if the chosen side scores higher, 0 if lower, 0.5 for a tie."""
        return wins(self.means[:, 0], self.means[:, 1])

    @property
    def differences(self) -> Floats:
        """[N]: reward of chosen minus that of rejected."""
        return self.means[:, 0] - self.means[:, 1]

    @property
    def lengths(self) -> Floats:
        """[N, 2] tokens"""
        return np.array([(len(pair.chosen), len(pair.rejected)) for pair in self.pairs], dtype=np.float64)

    @property
    def ratings(self) -> Floats:
        """[N, 2], NaN where nobody rated that side on its own"""
        ratings = [(pair.row["chosen_rating"], pair.row["rejected_rating"]) for pair in self.pairs]
        return np.array(ratings, dtype=np.float64)

    @property
    def conversations(self) -> list[tuple[str, ...]]:
        return [pair.conversations for pair in self.pairs]

    @cached_property
    def texts(self) -> list[tuple[str, str]]:
        return [(said(pair.row["chosen"]), said(pair.row["rejected"])) for pair in self.pairs]

    @property
    def replies(self) -> list[tuple[str, str]]:
        """The last message of both sides."""
        return [(pair.row["chosen"][-1]["content"], pair.row["rejected"][-1]["content"]) for pair in self.pairs]

    def column(self, name: str) -> list[str]:
        return [pair.row[name] for pair in self.pairs]


def accuracies(model: PreTrainedModel, split: str, pairs: Sequence[Pair]) -> dict[str, float]:
    """Accuracy for each group of pairs; TRL's own figure is a mean of batch means."""
    scored = ScoredPairs.score(RewardScorer(plain(model)), pairs)
    groups = {prefix: scored.of_group(group).right for group, prefix in PREFIX.items()}
    return {f"{split}_{prefix}accuracy": float(right.mean()) for prefix, right in groups.items() if len(right)}


def preference_pairs(scored: Mapping[str, ScoredPairs]) -> dict[str, ScoredPairs]:
    """The preference pairs; all pairs, if a split has no preference pairs."""
    chosen = {split: here.of_group(PREFERENCE) for split, here in scored.items()}
    return chosen if all(here.pairs for here in chosen.values()) else dict(scored)
