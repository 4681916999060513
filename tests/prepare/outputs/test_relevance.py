import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Conversation, Record, Text, write_records
from groundup.prepare.outputs.relevance import relevance_bytes_per_conversation, relevance_pairs
from groundup.runner.params.prepare import RelevanceParams


def of(
    turns: list[int],
    min_characters: int = 1,
    earlier: float = 0.0,
    same_opening: float = 0.0,
    pairs_per_reply: int = 1,
) -> RelevanceParams:
    return RelevanceParams(
        turns=turns,
        min_characters=min_characters,
        pairs_per_reply=pairs_per_reply,
        earlier_turn_fraction=earlier,
        same_opening_fraction=same_opening,
    )


PARAMS = of([2, 4])
EARLIER = of([2, 4], earlier=1.0)


def talk(name: str, *said: str, opening: str | None = "Topic?") -> Conversation:
    return Conversation(name, "s", opening, [(i % 2, text) for i, text in enumerate(said)], None)


def pair_up(folder: Path, records: Sequence[Record], params: RelevanceParams = PARAMS, seed: int = 1) -> list[Row]:
    write_records(folder / "records.jsonl", records)
    return list(relevance_pairs(folder / "records.jsonl", params, seed))


def test_a_pair_by_hand(tmp_path: Path) -> None:
    rows = pair_up(tmp_path, [talk("a", "Tea?", "Yes please"), talk("b", "Rain?", "Not today", opening=None)])
    row = next(row for row in rows if row["chosen_id"] == "a")
    so_far = [{"role": "system", "content": "Topic?"}, {"role": "user", "content": "Tea?"}]
    assert row == {
        "id": "a@1>b@1#0",
        "kind": "relevance",
        "source": "s",
        "chosen": [*so_far, {"role": "assistant", "content": "Yes please"}],
        "rejected": [*so_far, {"role": "assistant", "content": "Not today"}],
        "margin": 0.0,
        "chosen_id": "a",
        "rejected_id": "b",
        "chosen_rating": None,
        "rejected_rating": None,
        "wrong_from": "elsewhere",
    }
    assert len(rows) == 2


def test_an_earlier_turn_is_no_reply(tmp_path: Path) -> None:
    rows = pair_up(tmp_path, [talk("a", "Tea?", "Yes", "Milk?", "No"), talk("b", "Rain?", "Not today")], EARLIER)
    assert {row["id"] for row in rows} == {"a@1>a@1#0", "a@3>a@3#0", "b@1>b@1#0"}
    for row in rows:
        assert row["wrong_from"] == "earlier_turn"
        said = [message["content"] for message in row["chosen"]]
        assert row["rejected"][-1]["content"] in said[1:-1]
        assert row["rejected"][:-1] == row["chosen"][:-1]


def test_a_harder_wrong_reply_is_of_the_same_opening(tmp_path: Path) -> None:
    """Each opening has 30 conversations, and every 25th reply of all is of the same one."""
    conversations = [
        talk(f"c{i}", "Hi", " ".join(["word"] * (1 + i // 25)) + f" {i}", opening=f"Topic {i % 25}?")
        for i in range(750)
    ]
    rows = pair_up(tmp_path, conversations, of([2], same_opening=1.0))
    assert len(rows) == 750
    assert {row["wrong_from"] for row in rows} == {"same_opening"}
    num_words = {c.id: len(c.turns[1][1].split()) for c in conversations}
    for row in rows:
        chosen, rejected = row["chosen_id"], row["rejected_id"]
        assert chosen != rejected
        assert int(chosen[1:]) % 25 == int(rejected[1:]) % 25
        assert abs(num_words[chosen] - num_words[rejected]) <= 20  # the 20 nearest of the opening, one of each length
    anywhere = pair_up(tmp_path, conversations, of([2]))
    assert {row["wrong_from"] for row in anywhere} == {"elsewhere"}
    assert sum(int(row["chosen_id"][1:]) % 25 == int(row["rejected_id"][1:]) % 25 for row in anywhere) < 75


def test_a_wrong_reply_is_at_the_same_point(tmp_path: Path) -> None:
    """As late in its conversation, and after a question if the right one is."""
    conversations = [
        talk(f"c{i}", "Tea?" if i % 2 else "Hello", f"yes {i}", "More?" if i % 3 else "Bye", f"so {i}")
        for i in range(60)
    ]
    points = {f"c{i}@{turn}": (turn, bool(i % (2 if turn == 1 else 3))) for i in range(60) for turn in (1, 3)}
    for params in (of([2, 4]), of([2, 4], same_opening=1.0)):
        rows = pair_up(tmp_path, conversations, params)
        assert len(rows) == 120
        for row in rows:
            right, wrong = row["id"].removesuffix("#0").split(">")
            assert points[right] == points[wrong]


def test_without_another_reply_to_the_opening_it_is_from_elsewhere(tmp_path: Path) -> None:
    conversations = [
        talk("alone", "Hi", "yes", opening="Cats?"),
        *(talk(f"none{i}", "Hi", f"no {i}", opening=None) for i in range(3)),
        *(talk(f"same{i}", "Hi", "just so", "And?", "just so", opening="Dogs?") for i in range(2)),
        Conversation("other", "t", "Cats?", [(0, "Hi"), (1, "of another source")], None),
        *(talk(f"two{i}", "Hi", f"oh {i}", opening="Birds?") for i in range(2)),
    ]
    rows = pair_up(tmp_path, conversations, of([2, 4], same_opening=1.0))
    assert len(rows) == 9  # the two of "And?" say the same, and no other reply is at their point
    found = {row["chosen_id"]: (row["wrong_from"], row["rejected_id"]) for row in rows}
    assert (found.pop("two0"), found.pop("two1")) == (("same_opening", "two1"), ("same_opening", "two0"))
    assert {wrong_from for wrong_from, _ in found.values()} == {"elsewhere"}


def test_shares_of_where_wrong_replies_are_from(tmp_path: Path) -> None:
    conversations = [talk(f"c{i}", "Hi", f"reply {i}", "And?", f"more {i}") for i in range(1000)]
    counts = Counter(row["wrong_from"] for row in pair_up(tmp_path, conversations, of([2, 4], 1, 0.2, 0.5)))
    assert {kind: round(count / 2000, 1) for kind, count in counts.items()} == {
        "earlier_turn": 0.2, "same_opening": 0.5, "elsewhere": 0.3
    }  # fmt: skip


def test_length_does_not_tell_which_reply_is_right(tmp_path: Path) -> None:
    conversations = [talk(f"c{i}", "Hi", " ".join(["word"] * (i % 150)) + f" {i}") for i in range(600)]
    rows = pair_up(tmp_path, conversations)
    lengths = [(len(row["chosen"][-1]["content"]), len(row["rejected"][-1]["content"])) for row in rows]
    assert len(rows) == 600
    assert max(abs(right - wrong) for right, wrong in lengths) < 50  # of up to 750 characters
    assert abs(sum(right > wrong for right, wrong in lengths) - sum(right < wrong for right, wrong in lengths)) < 60


def test_who_cannot_be_paired_is_left_out(tmp_path: Path) -> None:
    same_words = [talk("a", "Hi", "lol"), talk("b", "Hey", "lol")]
    assert pair_up(tmp_path, same_words) == []
    own_only = [talk("a", "Hi", "lol", "So?", "no")]
    assert pair_up(tmp_path, own_only) == []
    others: list[Record] = [
        Text("t", "s", "text"),
        Conversation("three", "s", "Topic?", [(0, "x"), (1, "y"), (2, "z")], None),
        talk("alone", "Hi"),
        talk("c", "Hi", "ok"),
        talk("d", "Hi", "I do not think so"),
    ]
    long_enough = of([2], 3)
    assert pair_up(tmp_path, others, long_enough) == []  # d has no partner left: "ok" is too short
    assert len(pair_up(tmp_path, others)) == 2


def test_pairs_depend_on_names_and_seed_only(tmp_path: Path) -> None:
    conversations = [talk(f"c{i}", "Hi", f"reply {i}", "And?", f"more {i}") for i in range(40)]
    half = of([2, 4], earlier=0.5)
    rows = pair_up(tmp_path, conversations, half)
    assert rows == pair_up(tmp_path, conversations[::-1], half)
    assert rows != pair_up(tmp_path, conversations, half, seed=2)
    earlier = Counter(row["chosen_id"] == row["rejected_id"] for row in rows)
    assert 20 <= earlier[True] <= 60
    assert sum(earlier.values()) == 80


def test_memory_is_what_the_data_card_says(tmp_path: Path) -> None:
    count = 4000
    write_records(
        tmp_path / "records.jsonl",
        [talk(f"corpus/{i:032d}", "Hi", "r " * (i % 40) + str(i), "And?", f"more {i}") for i in range(count)],
    )
    sum(1 for _ in relevance_pairs(tmp_path / "records.jsonl", PARAMS, 1))
    tracemalloc.start()
    sum(1 for _ in relevance_pairs(tmp_path / "records.jsonl", PARAMS, 1))
    taken = tracemalloc.get_traced_memory()[1] / count
    tracemalloc.stop()
    stated = relevance_bytes_per_conversation(PARAMS)
    assert 0.7 * stated < taken < stated


def test_a_reply_has_pairs_with_different_wrong_replies_as_far_as_there_are(tmp_path: Path) -> None:
    talks = [talk(f"c{i}", "Hi", f"word {i % 3}") for i in range(6)]  # each reply is said in two conversations
    rows = pair_up(tmp_path, talks, of([2], pairs_per_reply=5))
    by_reply: dict[str, list[str]] = {}
    for row in rows:
        by_reply.setdefault(row["chosen_id"], []).append(row["rejected"][-1]["content"])
    assert len(by_reply) == 6
    for i in range(6):
        assert sorted(by_reply[f"c{i}"]) == sorted({"word 0", "word 1", "word 2"} - {f"word {i % 3}"})
    assert len({row["id"] for row in rows}) == len(rows) == 12
