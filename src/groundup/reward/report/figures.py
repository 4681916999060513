"""Figures of a reward model on held-out pairs: pure functions of scores, lengths, margins and ratings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from groundup.core.judging.statistics import Floats, sharing_interval, spearman, spearman_interval, wins
from groundup.reward.report.scores import ScoredPairs
from groundup.runner.params.training import RewardParams

Figures = dict[str, float | None]

RULES = ("heldout_accuracy", "length_only_accuracy", "bag_of_words_accuracy")
BASELINES = ("length_only", "bag_of_words")
MIN_CONVERSATIONS = 10  # with fewer, an interval is too narrow


@dataclass(frozen=True)
class Bucket:
    """Pairs of one kind; the accuracies are None without pairs."""

    name: str
    num_pairs: int
    num_conversations: int
    heldout_accuracy: float | None
    heldout_accuracy_ci_low: float | None
    heldout_accuracy_ci_high: float | None
    length_only_accuracy: float | None
    bag_of_words_accuracy: float | None


def rule_outcomes(scored: ScoredPairs, bag_of_words: Floats) -> dict[str, Floats]:
    """Whether the reward model and both baselines are right about each pair, [N]; bag_of_words: its scores [N, 2]."""
    baselines = (wins(*scores.T) for scores in (scored.lengths, bag_of_words))
    return dict(zip(RULES, (scored.right, *baselines), strict=True))


def bounded(name: str, value: float, interval: tuple[float, float]) -> Figures:
    """A figure and the ends of its interval; None for NaN, which JSON cannot hold."""
    return {name: finite(value), **ends(name, interval)}


def ends(name: str, interval: tuple[float, float]) -> Figures:
    low, high = interval
    return {f"{name}_ci_low": finite(low), f"{name}_ci_high": finite(high)}


def finite(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def interval_of_mean(name: str, values: Floats, conversations: Sequence[tuple[str, ...]]) -> Figures:
    """The mean and the ends of its interval, which are None for fewer than MIN_CONVERSATIONS."""
    interval = (math.nan, math.nan)
    if num_distinct(conversations) >= MIN_CONVERSATIONS:
        interval = sharing_interval(values, conversations)
    return bounded(name, values.mean(), interval)


def num_distinct(conversations: Sequence[Sequence[str]]) -> int:
    return len({name for group in conversations for name in group})


def compare_with_baselines(outcomes: Mapping[str, Floats], conversations: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Accuracies, the model's gain over each baseline (paired), and whether it beats them."""
    figures: dict[str, Any] = {}
    for rule in RULES:
        figures |= interval_of_mean(rule, outcomes[rule], conversations)
    for baseline in BASELINES:
        gain = outcomes["heldout_accuracy"] - outcomes[f"{baseline}_accuracy"]
        figures |= interval_of_mean(f"accuracy_above_{baseline}", gain, conversations)
        low = figures[f"accuracy_above_{baseline}_ci_low"]
        figures[f"beats_{baseline}"] = low is not None and low > 0
    return figures


def bucket_names(edges: Sequence[float], unit: str) -> list[str]:
    """Names of the buckets between edges; a bucket includes its lower edge."""
    inner = [f"{low:g} to {high:g}{unit}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}{unit}", *inner, f"{edges[-1]:g}{unit} or more"]


def bucket_of(values: Floats, edges: Sequence[float], names: Sequence[str]) -> list[str]:
    """The bucket of each value; a value equal to an edge is in the bucket above it."""
    return [names[place] for place in np.searchsorted(np.array(edges), values, side="right")]


def by_bucket(
    names: Sequence[str],
    memberships: Sequence[str],
    outcomes: Mapping[str, Floats],
    conversations: Sequence[tuple[str, ...]],
) -> list[Bucket]:
    """Accuracy within each of the named buckets; memberships: the bucket of each pair."""
    buckets = []
    for name in names:
        here = [i for i, membership in enumerate(memberships) if membership == name]
        ids = [conversations[i] for i in here]
        figures: Figures = dict.fromkeys(("heldout_accuracy_ci_low", "heldout_accuracy_ci_high", *RULES))
        if here:
            figures |= {rule: float(outcomes[rule][here].mean()) for rule in RULES}
            figures |= interval_of_mean("heldout_accuracy", outcomes["heldout_accuracy"][here], ids)
        buckets.append(Bucket(name, len(here), num_distinct(ids), **figures))
    return buckets


def all_buckets(scored: ScoredPairs, outcomes: Mapping[str, Floats], params: RewardParams) -> dict[str, list[Bucket]]:
    """Accuracy by margin, by length difference, by source and by kind."""
    margins = np.array([pair.margin for pair in scored.pairs])
    longer = scored.lengths[:, 0] - scored.lengths[:, 1]
    buckets = {}
    for key, values, edges, unit in (
        ("by_margin", margins, params.report.margin_edges, ""),
        ("by_length_difference", longer, params.report.length_difference_edges, " tokens"),
    ):
        names = bucket_names(edges, unit)
        buckets[key] = by_bucket(names, bucket_of(values, edges, names), outcomes, scored.conversations)
    for column in ("source", "kind"):
        names = scored.column(column)
        buckets[f"by_{column}"] = by_bucket(sorted(set(names)), names, outcomes, scored.conversations)
    return buckets


@dataclass(frozen=True)
class Excerpts:
    """The sides of all pairs, each listed once."""

    rewards: Floats  # [M]
    lengths: Floats  # [M] tokens
    ratings: Floats  # [M], NaN where nobody rated it
    conversations: list[str]


def distinct_excerpts(scored: ScoredPairs) -> Excerpts:
    """The same text from two conversations counts twice."""
    ratings, conversations = scored.ratings, scored.conversations
    # The first position with a rating, else the first: pairs of several kinds may share a side.
    every = sorted((bool(np.isnan(rating)), *place) for place, rating in np.ndenumerate(ratings))
    places = {(conversations[i][side], scored.texts[i][side]): (i, side) for _, i, side in reversed(every)}
    ordered = sorted((place, conversation) for (conversation, _), place in places.items())
    rows, sides = np.array([place for place, _ in ordered], dtype=np.int64).T
    return Excerpts(
        rewards=scored.means[rows, sides],
        lengths=scored.lengths[rows, sides],
        ratings=ratings[rows, sides],
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
        clusters = [[excerpts.conversations[i]] for i in np.flatnonzero(used)]
        value = spearman(x, y) if used.any() else math.nan
        interval = (math.nan, math.nan)
        if num_distinct(clusters) >= MIN_CONVERSATIONS:
            interval = spearman_interval(x, y, clusters, params.bootstrap_samples, params.seed)
        figures |= bounded(name, value, interval)
    return figures
