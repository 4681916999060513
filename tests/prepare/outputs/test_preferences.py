import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Conversation, Preference, Record, write_records
from groundup.prepare.outputs.preferences import pairing_bytes_per_conversation, preferences, systematic_sample
from groundup.runner.params.prepare import PreferenceParams, RelevanceParams

PARAMS = PreferenceParams(
    min_rating_gap=2.0,
    excerpt_turns=[2],
    margin_scale=0.1,
    max_pairs_per_conversation=3,
    relevance=RelevanceParams(
        turns=[2], min_characters=1, pairs_per_reply=1, earlier_turn_fraction=0.0, same_opening_fraction=0.0
    ),
)


def rated(name: str, *ratings: int, opening: str = "Topic?", num_turns: int = 3) -> Conversation:
    turns = [(i % 2, f"{name} says {i}") for i in range(num_turns)]
    return Conversation(name, "s", opening, turns, dict(zip(("witty", "interesting", "upbeat"), ratings, strict=True)))


def pair_up(
    folder: Path, conversations: Sequence[Record], params: PreferenceParams = PARAMS, seed: int = 1
) -> list[Row]:
    write_records(folder / "records.jsonl", conversations)
    return list(preferences(folder / "records.jsonl", params, seed))


def test_a_pair_by_hand(tmp_path: Path) -> None:
    def said(name: str) -> list[dict[str, str]]:
        contents = ("Topic?", f"{name} says 0", f"{name} says 1")
        return [{"role": r, "content": c} for r, c in zip(("system", "user", "assistant"), contents, strict=True)]

    (row,) = pair_up(tmp_path, [rated("low", 1, 2, 4), rated("high", 9, 9, 10)])
    assert row == {
        "id": "high>low@3",
        "kind": "rating",
        "source": "s",
        "chosen": said("high"),
        "rejected": said("low"),
        "margin": 0.7,
        "chosen_id": "high",
        "rejected_id": "low",
        "chosen_rating": 9.333333,
        "rejected_rating": 2.333333,
        "wrong_from": None,
    }


def test_no_pair_across_openings_below_the_gap_or_without_enough_turns(tmp_path: Path) -> None:
    conversations = [
        rated("a", 9, 9, 9),
        rated("b", 1, 1, 1, opening="Other?"),
        rated("c", 8, 8, 8),
        rated("d", 1, 1, 1, num_turns=1),
        Conversation("e", "s", "Topic?", [(0, "x"), (1, "y")], None),
    ]
    assert pair_up(tmp_path, conversations) == []


def test_no_conversation_is_in_more_pairs_than_allowed_and_the_gap_is_kept(tmp_path: Path) -> None:
    conversations = [rated(f"c{i}", *[1 + i % 10] * 3) for i in range(60)]
    rows = pair_up(tmp_path, conversations)
    uses = Counter(name for row in rows for name in (row["chosen_id"], row["rejected_id"]))
    assert max(uses.values()) == 3
    assert len(rows) > 60
    assert all(row["chosen_rating"] - row["rejected_rating"] >= 2 for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)


def test_pairs_do_not_depend_on_the_order_of_the_conversations(tmp_path: Path) -> None:
    conversations = [rated(f"c{i}", *[1 + i % 10] * 3, opening=f"Topic {i % 2}?") for i in range(40)]
    rows = pair_up(tmp_path, conversations)
    assert rows == pair_up(tmp_path, conversations[::-1])
    assert rows != pair_up(tmp_path, conversations, seed=2)


def test_pairs_of_users_carry_full_messages_and_their_margin(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    hello, no = ({"role": "assistant", "content": content} for content in ("Hello", "No"))
    (row,) = pair_up(tmp_path, [Preference("p", "s", prompt, [hello], [no], 0.5)])
    assert row["chosen"] == [*prompt, hello]
    assert row["rejected"] == [*prompt, no]
    assert (row["margin"], row["chosen_id"], row["rejected_id"]) == (0.5, "p", "p")
    assert row["chosen_rating"] is None
    assert row["wrong_from"] is None


def test_pairs_of_every_length_that_both_have(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"excerpt_turns": [2, 4]})
    conversations = [rated("low", 1, 1, 1, num_turns=5), rated("high", 9, 9, 9, num_turns=4), rated("mid", 5, 5, 6)]
    rows = pair_up(tmp_path, conversations, params)
    assert sorted((row["chosen_id"], row["rejected_id"], len(row["chosen"])) for row in rows) == [
        ("high", "low", 3),
        ("high", "low", 5),
        ("high", "mid", 3),
        ("mid", "low", 3),
    ]
    assert all(len(row["chosen"]) == len(row["rejected"]) for row in rows)


def test_a_gap_that_floats_round_down_still_counts(tmp_path: Path) -> None:
    assert 11 / 3 - 5 / 3 < 2
    rows = pair_up(tmp_path, [rated("high", 4, 4, 3), rated("low", 2, 2, 1)])
    assert [row["id"] for row in rows] == ["high>low@3"]


def test_equal_excerpts_make_no_pair(tmp_path: Path) -> None:
    low, high = rated("low", 1, 1, 1), rated("high", 9, 9, 9)
    copy = Conversation("high", "s", "Topic?", low.turns, high.ratings)
    assert pair_up(tmp_path, [low, copy]) == []


def test_where_all_combinations_are_few_all_are_considered(tmp_path: Path) -> None:
    """At most 2 x `max_pairs_per_conversation` partners, none used up: every combination is a pair."""
    conversations = [rated(f"good{i}", 9, 9, 9) for i in range(3)] + [rated(f"bad{i}", 1, 1, 1) for i in range(3)]
    rows = pair_up(tmp_path, conversations)
    assert {(row["chosen_id"], row["rejected_id"]) for row in rows} == {
        (f"good{i}", f"bad{j}") for i in range(3) for j in range(3)
    }


def test_in_a_crowd_nearly_all_get_pairs_and_these_with_partners_of_all_ratings(tmp_path: Path) -> None:
    """300 good and 300 bad conversations of one opening: 90,000 combinations, of which 900 are pairs."""
    conversations = [rated(f"good{i}", 9, 9, 9) for i in range(300)]
    conversations += [rated(f"bad{i}", 1, 1, 1 + i % 5) for i in range(300)]
    rows = pair_up(tmp_path, conversations)
    uses = Counter(name for row in rows for name in (row["chosen_id"], row["rejected_id"]))
    assert len(uses) > 0.97 * 600
    assert len(rows) > 0.9 * 900
    assert max(uses.values()) == 3
    by_rating = Counter(row["rejected_rating"] for row in rows)
    assert len(by_rating) == 5
    assert min(by_rating.values()) > 0.15 * len(rows)


def test_a_systematic_sample_is_spread_over_all_and_starts_where_it_is_told() -> None:
    assert systematic_sample(10, 5, start=103).tolist() == [3, 5, 7, 9, 1]
    assert sorted(systematic_sample(4, 9, start=2).tolist()) == [0, 1, 2, 3]
    assert systematic_sample(0, 9, start=2).tolist() == []


@pytest.mark.parametrize("num_openings", [1, 2000])
def test_memory_is_within_the_stated_bytes(tmp_path: Path, num_openings: int) -> None:
    params = PARAMS.model_copy(update={"max_pairs_per_conversation": 16})
    count, path = 2000, tmp_path / "records.jsonl"
    names = (f"conversation-with-a-long-name-{i:020}" for i in range(count))
    write_records(
        path, (rated(name, *[1 + i % 10] * 3, opening=f"{i % num_openings}?") for i, name in enumerate(names))
    )
    pair_up(tmp_path / "first", [rated("low", 1, 1, 1), rated("high", 9, 9, 9)])  # what is imported once
    tracemalloc.start()
    num_pairs = sum(1 for _ in preferences(path, params, 1))
    taken = tracemalloc.get_traced_memory()[1] / count
    tracemalloc.stop()
    assert (num_pairs > 0) == (num_openings == 1)
    stated = pairing_bytes_per_conversation(params)
    assert taken < stated
    assert num_openings > 1 or taken > 0.7 * stated
    assert stated < 2000  # the text of a conversation has more
