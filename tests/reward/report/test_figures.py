"""Figures of the reward model's report on pairs that can be counted by hand."""

from typing import Any

import numpy as np
import pytest

from groundup.core.formats.records import said
from groundup.reward.pairs import Pair
from groundup.reward.report.figures import (
    all_buckets,
    bucket_names,
    bucket_of,
    compare_with_baselines,
    correlations,
    distinct_excerpts,
    rule_outcomes,
)
from groundup.reward.report.scores import ScoredPairs
from tests.presets import preset

PARAMS = preset("smoke").reward


def row(chosen: str, rejected: str, **changes: Any) -> dict[str, Any]:
    """A pair of the conversations `chosen` and `rejected`, each with its own name as text."""
    topic = {"role": "system", "content": "the sea"}
    return {
        "source": "talk",
        "kind": "rating",
        "chosen": [topic, {"role": "user", "content": "hi"}, {"role": "assistant", "content": chosen}],
        "rejected": [topic, {"role": "user", "content": "hi"}, {"role": "assistant", "content": rejected}],
        "margin": 0.2,
        "chosen_id": chosen,
        "rejected_id": rejected,
        "chosen_rating": 8.0,
        "rejected_rating": 6.0,
        "wrong_from": "elsewhere",  # read of relevance pairs alone
        **changes,
    }


def scored(rows: list[dict[str, Any]], rewards: Any, lengths: list[list[int]]) -> ScoredPairs:
    pairs = [Pair([0] * chosen, [0] * rejected, row) for row, (chosen, rejected) in zip(rows, lengths, strict=True)]
    means = np.array(rewards, dtype=np.float64)
    return ScoredPairs(pairs, means, np.zeros_like(means))


def four_pairs() -> ScoredPairs:
    rows = [
        row("a", "b"),
        row("a", "c", margin=0.25, chosen_rating=9.0, rejected_rating=4.0),
        row("d", "c", margin=0.9, kind="relevance", chosen_rating=None, rejected_rating=None),
        row("d", "b", source="books", kind="given", chosen_rating=None, rejected_rating=None),
    ]
    return scored(rows, [[2.0, 1.0], [2.0, 0.5], [-1.0, 0.5], [1.0, 1.0]], [[10, 10], [10, 60], [40, 25], [40, 10]])


WORDS = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])  # scores of the bag of words


def test_what_is_said_leaves_the_topic_out() -> None:
    assert four_pairs().texts[0] == ("hi\na", "hi\nb")
    assert said([{"role": "system", "content": "the sea"}]) == ""


def test_each_rule_is_right_wrong_or_tied() -> None:
    outcomes = rule_outcomes(four_pairs(), WORDS)
    assert {rule: values.tolist() for rule, values in outcomes.items()} == {
        "heldout_accuracy": [1.0, 1.0, 0.0, 0.5],
        "length_only_accuracy": [0.5, 0.0, 1.0, 1.0],
        "bag_of_words_accuracy": [0.0, 1.0, 1.0, 0.5],
    }


def test_differences_are_paired() -> None:
    pairs = four_pairs()
    figures = compare_with_baselines(rule_outcomes(pairs, WORDS), pairs.conversations)
    assert figures["heldout_accuracy"] == figures["length_only_accuracy"] == figures["bag_of_words_accuracy"] == 0.625
    assert figures["accuracy_above_length_only"] == figures["accuracy_above_bag_of_words"] == 0.0


def test_two_rules_with_the_same_verdicts_differ_by_nothing() -> None:
    """An unpaired difference would have a wide interval here."""
    rng = np.random.default_rng(0)
    outcomes = dict.fromkeys(("heldout_accuracy", "length_only_accuracy"), (rng.random(60) < 0.7).astype(float))
    outcomes["bag_of_words_accuracy"] = np.zeros(60)
    figures = compare_with_baselines(outcomes, [(str(i), str(i + 1)) for i in range(60)])
    assert figures["accuracy_above_length_only_ci_low"] == figures["accuracy_above_length_only_ci_high"] == 0.0
    assert (figures["beats_length_only"], figures["beats_bag_of_words"]) == (False, True)


def test_the_lower_end_decides_whether_a_baseline_is_beaten() -> None:
    conversations = [(str(i), f"{i}'") for i in range(200)]
    model = np.array([1.0] * 140 + [0.0] * 60)
    for baseline, beaten in ((0.5, True), (0.68, False), (0.7, False)):
        outcomes = {
            "heldout_accuracy": model,
            "length_only_accuracy": np.full(200, baseline),
            "bag_of_words_accuracy": np.full(200, baseline),
        }
        figures = compare_with_baselines(outcomes, conversations)
        assert (figures["beats_length_only"], figures["beats_bag_of_words"]) == (beaten, beaten)


def test_a_value_on_an_edge_is_in_the_bucket_above_it() -> None:
    names = bucket_names([-50.0, 0.5], " tokens")
    assert names == ["below -50 tokens", "-50 to 0.5 tokens", "0.5 tokens or more"]
    values = np.array([-51.0, -50.0, 0.49, 0.5, 9.0])
    assert [names.index(name) for name in bucket_of(values, [-50.0, 0.5], names)] == [0, 1, 1, 2, 2]
    assert bucket_names([1.0], "") == ["below 1", "1 or more"]


def test_buckets_by_hand() -> None:
    pairs = four_pairs()
    buckets = all_buckets(pairs, rule_outcomes(pairs, WORDS), PARAMS)
    counts = {key: [(b.name, b.num_pairs, b.num_conversations) for b in group] for key, group in buckets.items()}
    assert counts == {
        "by_margin": [
            ("below 0.1", 0, 0),
            ("0.1 to 0.25", 2, 3),
            ("0.25 to 0.35", 1, 2),
            ("0.35 to 0.5", 0, 0),
            ("0.5 or more", 1, 2),
        ],
        "by_length_difference": [
            ("below -50 tokens", 0, 0),
            ("-50 to -15 tokens", 1, 2),
            ("-15 to 15 tokens", 1, 2),
            ("15 to 50 tokens", 2, 3),
            ("50 tokens or more", 0, 0),
        ],
        "by_source": [("books", 1, 2), ("talk", 3, 4)],
        "by_kind": [("given", 1, 2), ("rating", 2, 3), ("relevance", 1, 2)],
    }
    below = buckets["by_margin"][1]
    assert (below.heldout_accuracy, below.length_only_accuracy, below.bag_of_words_accuracy) == (0.75, 0.75, 0.25)
    empty = buckets["by_margin"][3]
    assert empty.heldout_accuracy is empty.heldout_accuracy_ci_low is empty.bag_of_words_accuracy is None


def test_an_excerpt_counts_once() -> None:
    rows = [row("a", "b"), row("a", "c"), row("a", "b", rejected_id="elsewhere")]
    excerpts = distinct_excerpts(scored(rows, [[3, 1], [3, 2], [3, 1]], [[5, 6], [5, 7], [5, 6]]))
    assert excerpts.conversations == ["a", "b", "c", "elsewhere"]
    assert excerpts.rewards.tolist() == [3, 1, 2, 1]
    assert excerpts.lengths.tolist() == [5, 6, 7, 6]
    assert excerpts.ratings.tolist() == [8, 6, 6, 6]


def test_a_side_without_a_rating_has_none() -> None:
    excerpts = distinct_excerpts(four_pairs())
    assert excerpts.conversations == ["a", "b", "c", "d"]
    assert excerpts.ratings[:3].tolist() == [8.0, 6.0, 4.0]
    assert np.isnan(excerpts.ratings[3])


def test_a_rating_is_found_in_whichever_pair_has_it() -> None:
    unrated = row("a", "b", kind="relevance", chosen_rating=None, rejected_rating=None)
    excerpts = distinct_excerpts(scored([unrated, row("a", "c")], [[3, 1], [3, 2]], [[5, 6], [5, 7]]))
    assert dict(zip(excerpts.conversations, excerpts.ratings, strict=True)) == pytest.approx(
        {"a": 8.0, "b": np.nan, "c": 6.0}, nan_ok=True
    )


def test_correlations_by_hand() -> None:
    """Rewards 2, 1, 0.5 go with ratings 8, 6, 4; with lengths 10, 10, 60, 40 they and -1 do not."""
    figures = correlations(distinct_excerpts(four_pairs()), PARAMS)
    assert (figures["num_excerpts"], figures["num_rated_excerpts"]) == (4, 3)
    assert figures["rating_spearman"] == pytest.approx(1.0)
    # Ranks 4, 3, 2, 1 against 1.5, 1.5, 4, 3: covariance -3.5 of 5 and 4.5.
    assert figures["reward_length_spearman"] == pytest.approx(-3.5 / np.sqrt(5 * 4.5))
    assert figures["reward_length_spearman_ci_low"] is None  # four conversations


@pytest.mark.parametrize(("num_conversations", "has_interval"), [(9, False), (10, True)])
def test_few_conversations_have_no_interval(num_conversations: int, has_interval: bool) -> None:
    """All pairs are right in every resample: an interval of width zero would look like certainty."""
    rows = [row(f"a{i % (num_conversations - 1)}", "b") for i in range(40)]
    pairs = scored(rows, [[1 + i % 8, 0] for i in range(40)], [[i % 5, 9] for i in range(40)])
    figures = compare_with_baselines(rule_outcomes(pairs, pairs.lengths), pairs.conversations)
    assert figures["heldout_accuracy"] == 1.0
    assert figures["heldout_accuracy_ci_low"] == (1.0 if has_interval else None)
    assert figures["beats_length_only"] == figures["beats_bag_of_words"] == has_interval
    correlation = correlations(distinct_excerpts(pairs), PARAMS)
    assert (correlation["rating_spearman_ci_low"] is not None) == has_interval


def test_without_ratings_there_is_no_figure() -> None:
    rows = [row("a", "b", chosen_rating=None, rejected_rating=None)]
    figures = correlations(distinct_excerpts(scored(rows, [[2, 1]], [[1, 1]])), PARAMS)
    assert figures["num_rated_excerpts"] == 0
    assert figures["rating_spearman"] is figures["rating_spearman_ci_low"] is None
    assert figures["reward_length_spearman"] is None  # one length
