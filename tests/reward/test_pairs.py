"""Preference pairs: their kinds, pairs that are too long, the order of training."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.jsonl import write_jsonl
from groundup.reward.pairs import (
    PREFERENCE,
    PREFIX,
    RELEVANCE,
    Pair,
    draw_of_each_group,
    group_by_length,
    load_pairs,
    of_group,
)
from tests.reward.test_reward import pair


def test_pairs_over_the_limit_are_counted_and_none_left_is_an_error(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", [pair(0), pair(1, bad="x " * 200)])
    pairs, num_too_long = load_pairs(tmp_path / "pairs.jsonl", tiny_tokenizer, 64, PREFIX)
    assert (len(pairs), num_too_long) == (1, 1)
    with pytest.raises(ValueError, match=r"none of 2 preference pairs fits reward\.max_length 4; raise it"):
        load_pairs(tmp_path / "pairs.jsonl", tiny_tokenizer, 4, PREFIX)


def test_batches_hold_pairs_of_like_length_in_random_order() -> None:
    pairs = [Pair([0] * (1 + i * 37 % 100), [0], {}) for i in range(103)]
    ordered = group_by_length(pairs, 10, seed=1)
    assert sorted(len(p.chosen) for p in ordered) == sorted(len(p.chosen) for p in pairs)
    spans = [
        max(len(p.chosen) for p in ordered[i : i + 10]) - min(len(p.chosen) for p in ordered[i : i + 10])
        for i in range(0, 100, 10)
    ]
    assert max(spans) <= 12
    longest = [len(ordered[i].chosen) for i in range(0, 100, 10)]
    assert longest != sorted(longest)
    assert ordered == group_by_length(pairs, 10, seed=1)
    assert ordered != group_by_length(pairs, 10, seed=2)


def test_of_each_group_at_most_the_limit_is_drawn_in_the_order_of_the_file() -> None:
    pairs = [Pair([i], [], {"kind": kind}) for i, kind in enumerate(["rating", "sampled", "given"] * 4)]
    drawn = draw_of_each_group(pairs, 3, seed=1)
    assert {group: len(of_group(drawn, group)) for group in ("preference", "sampled")} == {
        "preference": 3,
        "sampled": 3,
    }
    assert [p.chosen for p in drawn] == sorted(p.chosen for p in drawn)
    assert draw_of_each_group(pairs, 3, seed=2) != drawn
    assert draw_of_each_group(pairs, None, seed=1) == pairs


def test_ratings_and_given_pairs_are_of_one_group(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [pair(i) | {"kind": kind} for i, kind in enumerate(("relevance", "rating", "given"))]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    pairs, _ = load_pairs(tmp_path / "pairs.jsonl", tiny_tokenizer, 64, PREFIX)
    assert [p.row["kind"] for p in of_group(pairs, PREFERENCE)] == ["rating", "given"]
    assert [p.row["kind"] for p in of_group(pairs, RELEVANCE)] == ["relevance"]
    only, _ = load_pairs(tmp_path / "pairs.jsonl", tiny_tokenizer, 64, [PREFERENCE])
    assert only == pairs[1:]
    write_jsonl(tmp_path / "pairs.jsonl", rows[:1])
    assert load_pairs(tmp_path / "pairs.jsonl", tiny_tokenizer, 64, [PREFERENCE]) == ([], 0)
    assert (pairs[1].margin, pairs[1].conversations) == (0.2, ("c1", "r1"))


def test_a_kind_that_lacks_or_that_nobody_knows_is_an_error(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    lacking = {key: value for key, value in pair(0).items() if key != "kind"}
    for row, what in (
        (lacking, "line 2 lacks kind"),
        (pair(0) | {"kind": "x"}, "line 2: kind 'x' is not one of rating"),
    ):
        write_jsonl(tmp_path / "pairs.jsonl", [pair(0), row])
        with pytest.raises(ValueError, match=what):
            load_pairs(tmp_path / "pairs.jsonl", tiny_tokenizer, 64, PREFIX)


@pytest.mark.parametrize("wrong_from", [None, "nowhere"])
def test_a_relevance_pair_says_where_its_wrong_reply_is_from(
    wrong_from: str | None, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", [pair(0), pair(1) | {"kind": "relevance", "wrong_from": wrong_from}])
    with pytest.raises(ValueError, match=f"line 2: wrong_from {wrong_from!r} is not one of elsewhere, same_opening"):
        load_pairs(tmp_path / "pairs.jsonl", tiny_tokenizer, 64, PREFIX)
