"""What held-out pairs say of a reward model: pure functions of scores, lengths, margins and ratings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.core.formats.jsonl import Row
from groundup.core.judging.statistics import cluster_bootstrap, spearman, spearman_interval, wins
from groundup.reward.report.bag_of_words import TextPair
from groundup.runner.params.training import RewardParams

Floats = NDArray[np.float64]
Figures = dict[str, float | None]

RULES = ("heldout_accuracy", "length_only_accuracy", "bag_of_words_accuracy")
BASELINES = ("length_only", "bag_of_words")
MIN_CONVERSATIONS = 10  # a bootstrap of fewer shows less doubt than there is: of one pair, none at all


@dataclass(frozen=True)
class PairTable:
    """N pairs in arrays; of two columns the first is the chosen side's."""

    rewards: Floats  # [N, 2]
    lengths: Floats  # [N, 2] tokens
    ratings: Floats  # [N, 2], NaN where nobody rated that side by itself
    margins: Floats  # [N]
    conversations: list[tuple[str, str]]
    texts: list[TextPair]
    sources: list[str]
    kinds: list[str]

    @classmethod
    def from_rows(cls, rows: Sequence[Row], lengths: Floats, rewards: Floats) -> "PairTable":
        """rows: of a file of preference pairs."""
        ratings = [(row["chosen_rating"], row["rejected_rating"]) for row in rows]
        return cls(
            rewards=rewards,
            lengths=lengths,
            ratings=np.array(ratings, dtype=np.float64),
            margins=np.array([row["margin"] for row in rows], dtype=np.float64),
            conversations=[(row["chosen_id"], row["rejected_id"]) for row in rows],
            texts=[(said(row["chosen"]), said(row["rejected"])) for row in rows],
            sources=[row["source"] for row in rows],
            kinds=[row["kind"] for row in rows],
        )

    @property
    def differences(self) -> Floats:
        """[N]: reward of chosen minus that of rejected."""
        return self.rewards[:, 0] - self.rewards[:, 1]


@dataclass(frozen=True)
class Bucket:
    """Pairs of one kind; an accuracy is None where there are none."""

    name: str
    num_pairs: int
    num_conversations: int
    heldout_accuracy: float | None
    heldout_accuracy_ci_low: float | None
    heldout_accuracy_ci_high: float | None
    length_only_accuracy: float | None
    bag_of_words_accuracy: float | None


def said(messages: Sequence[Mapping[str, str]]) -> str:
    """The turns; both sides of a pair share the system message."""
    return "\n".join(message["content"] for message in messages if message["role"] != "system")


def right(scores: Floats) -> Floats:
    """[N]: 1 where the chosen side scores higher, 0 where it scores lower, a half for a tie."""
    return wins(scores[:, 0], scores[:, 1])


def rule_outcomes(table: PairTable, bag_of_words: Floats) -> dict[str, Floats]:
    """How right the reward model and both baselines are about each pair, [N]; bag_of_words: its scores [N, 2]."""
    return dict(zip(RULES, map(right, (table.rewards, table.lengths, bag_of_words)), strict=True))


def interval_of_mean(
    name: str, values: Floats, conversations: Sequence[tuple[str, str]], params: RewardParams
) -> Figures:
    """The mean and the ends of its interval, which are None with too few conversations."""
    low, high = math.nan, math.nan
    if num_distinct(conversations) >= MIN_CONVERSATIONS:
        low, high = cluster_bootstrap(values.tolist(), conversations, params.bootstrap_samples, params.seed)
    return {name: float(values.mean()), f"{name}_ci_low": finite(low), f"{name}_ci_high": finite(high)}


def num_distinct(conversations: Sequence[Sequence[str]]) -> int:
    return len({name for group in conversations for name in group})


def compare_with_baselines(
    outcomes: Mapping[str, Floats], conversations: Sequence[tuple[str, str]], params: RewardParams
) -> dict[str, Any]:
    """Accuracies, what the model's is above each baseline's (paired), and whether it beats them."""
    figures: dict[str, Any] = {}
    for rule in RULES:
        figures |= interval_of_mean(rule, outcomes[rule], conversations, params)
    low = figures["heldout_accuracy_ci_low"]
    for baseline in BASELINES:
        gain = outcomes["heldout_accuracy"] - outcomes[f"{baseline}_accuracy"]
        figures |= interval_of_mean(f"accuracy_above_{baseline}", gain, conversations, params)
        figures[f"beats_{baseline}"] = low is not None and low > figures[f"{baseline}_accuracy"]
    return figures


def bucket_names(edges: Sequence[float], unit: str) -> list[str]:
    """From each edge to below the next."""
    inner = [f"{low:g} to {high:g}{unit}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}{unit}", *inner, f"{edges[-1]:g}{unit} or more"]


def bucket_of(values: Floats, edges: Sequence[float], names: Sequence[str]) -> list[str]:
    """The bucket of each value; one that equals an edge is in the bucket above it."""
    return [names[place] for place in np.searchsorted(np.array(edges), values, side="right")]


def by_bucket(
    names: Sequence[str],
    memberships: Sequence[str],
    outcomes: Mapping[str, Floats],
    conversations: Sequence[tuple[str, str]],
    params: RewardParams,
) -> list[Bucket]:
    """Accuracy within each of the named buckets; memberships: the bucket of each pair."""
    buckets = []
    for name in names:
        here = [i for i, membership in enumerate(memberships) if membership == name]
        ids = [conversations[i] for i in here]
        figures: Figures = dict.fromkeys(("heldout_accuracy_ci_low", "heldout_accuracy_ci_high", *RULES))
        if here:
            figures |= {rule: float(outcomes[rule][here].mean()) for rule in RULES}
            figures |= interval_of_mean("heldout_accuracy", outcomes["heldout_accuracy"][here], ids, params)
        buckets.append(Bucket(name, len(here), num_distinct(ids), **figures))
    return buckets


def all_buckets(table: PairTable, outcomes: Mapping[str, Floats], params: RewardParams) -> dict[str, list[Bucket]]:
    """Accuracy by margin, by how much longer the chosen side is, by source and by kind."""
    report = params.report
    margins = bucket_names(report.margin_edges, "")
    lengths = bucket_names(report.length_difference_edges, " tokens")
    longer = table.lengths[:, 0] - table.lengths[:, 1]
    splits = {
        "by_margin": (margins, bucket_of(table.margins, report.margin_edges, margins)),
        "by_length_difference": (lengths, bucket_of(longer, report.length_difference_edges, lengths)),
        "by_source": (sorted(set(table.sources)), table.sources),
        "by_kind": (sorted(set(table.kinds)), table.kinds),
    }
    return {
        key: by_bucket(names, memberships, outcomes, table.conversations, params)
        for key, (names, memberships) in splits.items()
    }


@dataclass(frozen=True)
class Excerpts:
    """What the sides of the pairs are, each once however many pairs it is in."""

    rewards: Floats  # [M]
    lengths: Floats  # [M] tokens
    ratings: Floats  # [M], NaN where nobody rated it
    conversations: list[str]


def distinct_excerpts(table: PairTable) -> Excerpts:
    """The same text of two conversations is two."""
    # The first place of each that carries a rating, else the first: pairs of several kinds may share a side.
    every = sorted((bool(np.isnan(rating)), *place) for place, rating in np.ndenumerate(table.ratings))
    places = {(table.conversations[i][side], table.texts[i][side]): (i, side) for _, i, side in reversed(every)}
    ordered = sorted((place, conversation) for (conversation, _), place in places.items())
    rows, sides = np.array([place for place, _ in ordered], dtype=np.int64).T
    return Excerpts(
        rewards=table.rewards[rows, sides],
        lengths=table.lengths[rows, sides],
        ratings=table.ratings[rows, sides],
        conversations=[conversation for _, conversation in ordered],
    )


def correlations(excerpts: Excerpts, params: RewardParams) -> dict[str, Any]:
    """Spearman of the reward with length and with people's rating of the conversation."""
    rated = ~np.isnan(excerpts.ratings)
    figures: dict[str, Any] = {"num_excerpts": len(rated), "num_rated_excerpts": int(rated.sum())}
    every = np.ones_like(rated)
    for name, other, used in (
        ("reward_length_spearman", excerpts.lengths, every),
        ("rating_spearman", excerpts.ratings, rated),
    ):
        x, y = excerpts.rewards[used], other[used]
        value, low, high = math.nan, math.nan, math.nan
        clusters = [[excerpts.conversations[i]] for i in np.flatnonzero(used)]
        if used.any():
            value = spearman(x, y)
        if num_distinct(clusters) >= MIN_CONVERSATIONS:
            low, high = spearman_interval(x, y, clusters, params.bootstrap_samples, params.seed)
        figures |= {name: finite(value), f"{name}_ci_low": finite(low), f"{name}_ci_high": finite(high)}
    return figures


def finite(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if math.isnan(value) else value
