from collections import Counter

from groundup.data.preferences import preferences
from groundup.data.records import Conversation, Preference
from groundup.frame.params.prepare import PreferenceParams

PARAMS = PreferenceParams(min_rating_gap=2.0, excerpt_turns=[2], margin_scale=0.1, max_pairs_per_conversation=3)


def rated(name: str, *ratings: int, opening: str = "Topic?", num_turns: int = 3) -> Conversation:
    turns = [(i % 2, f"{name} says {i}") for i in range(num_turns)]
    return Conversation(name, "s", opening, turns, dict(zip(("witty", "interesting", "upbeat"), ratings, strict=True)))


def test_a_pair_by_hand() -> None:
    (row,) = preferences([rated("low", 1, 2, 4), rated("high", 9, 9, 10)], PARAMS, seed=1)
    assert row == {
        "id": "high>low@3",
        "source": "s",
        "chosen": [
            {"role": "system", "content": "Topic?"},
            {"role": "user", "content": "high says 0"},
            {"role": "assistant", "content": "high says 1"},
        ],
        "rejected": [
            {"role": "system", "content": "Topic?"},
            {"role": "user", "content": "low says 0"},
            {"role": "assistant", "content": "low says 1"},
        ],
        "margin": 0.7,
        "chosen_id": "high",
        "rejected_id": "low",
        "chosen_rating": 9.333333,
        "rejected_rating": 2.333333,
    }


def test_no_pair_across_openings_below_the_gap_or_without_enough_turns() -> None:
    conversations = [
        rated("a", 9, 9, 9),
        rated("b", 1, 1, 1, opening="Other?"),
        rated("c", 8, 8, 8),
        rated("d", 1, 1, 1, num_turns=1),
        Conversation("e", "s", "Topic?", [(0, "x"), (1, "y")], None),
    ]
    assert list(preferences(conversations, PARAMS, seed=1)) == []


def test_no_conversation_is_in_more_pairs_than_allowed_and_the_gap_is_kept() -> None:
    conversations = [rated(f"c{i}", *[1 + i % 10] * 3) for i in range(60)]
    rows = list(preferences(conversations, PARAMS, seed=1))
    uses = Counter(name for row in rows for name in (row["chosen_id"], row["rejected_id"]))
    assert max(uses.values()) == 3
    assert len(rows) > 60
    assert all(row["chosen_rating"] - row["rejected_rating"] >= 2 for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)


def test_pairs_do_not_depend_on_the_order_of_the_conversations() -> None:
    conversations = [rated(f"c{i}", *[1 + i % 10] * 3, opening=f"Topic {i % 2}?") for i in range(40)]
    assert list(preferences(conversations, PARAMS, 1)) == list(preferences(conversations[::-1], PARAMS, 1))
    assert list(preferences(conversations, PARAMS, 1)) != list(preferences(conversations, PARAMS, 2))


def test_pairs_of_users_carry_full_messages_and_their_margin() -> None:
    prompt = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    hello, no = ({"role": "assistant", "content": content} for content in ("Hello", "No"))
    (row,) = preferences([Preference("p", "s", prompt, [hello], [no], 0.5)], PARAMS, seed=1)
    assert row["chosen"] == [*prompt, hello]
    assert row["rejected"] == [*prompt, no]
    assert (row["margin"], row["chosen_id"], row["rejected_id"]) == (0.5, "p", "p")
    assert row["chosen_rating"] is None


def test_pairs_of_every_length_that_both_have() -> None:
    params = PARAMS.model_copy(update={"excerpt_turns": [2, 4]})
    conversations = [rated("low", 1, 1, 1, num_turns=5), rated("high", 9, 9, 9, num_turns=4), rated("mid", 5, 5, 6)]
    rows = list(preferences(conversations, params, seed=1))
    assert sorted((row["chosen_id"], row["rejected_id"], len(row["chosen"])) for row in rows) == [
        ("high", "low", 3),
        ("high", "low", 5),
        ("high", "mid", 3),
        ("mid", "low", 3),
    ]
    assert all(len(row["chosen"]) == len(row["rejected"]) for row in rows)
