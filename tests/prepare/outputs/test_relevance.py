import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Conversation, Record, Text, write_records
from groundup.prepare.outputs.relevance import relevance_bytes_per_conversation, relevance_pairs
from groundup.runner.params.prepare import RelevanceParams

PARAMS = RelevanceParams(turns=[2, 4], min_characters=1, earlier_turn_fraction=0.0)
EARLIER = RelevanceParams(turns=[2, 4], min_characters=1, earlier_turn_fraction=1.0)


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
        "id": "a@1>b@1",
        "kind": "relevance",
        "source": "s",
        "chosen": [*so_far, {"role": "assistant", "content": "Yes please"}],
        "rejected": [*so_far, {"role": "assistant", "content": "Not today"}],
        "margin": 0.0,
        "chosen_id": "a",
        "rejected_id": "b",
        "chosen_rating": None,
        "rejected_rating": None,
    }
    assert len(rows) == 2


def test_an_earlier_turn_is_no_reply(tmp_path: Path) -> None:
    rows = pair_up(tmp_path, [talk("a", "Tea?", "Yes", "Milk?", "No"), talk("b", "Rain?", "Not today")], EARLIER)
    assert {row["id"] for row in rows} == {"a@1>a@1", "a@3>a@3", "b@1>b@1"}
    for row in rows:
        said = [message["content"] for message in row["chosen"]]
        assert row["rejected"][-1]["content"] in said[1:-1]
        assert row["rejected"][:-1] == row["chosen"][:-1]


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
    long_enough = RelevanceParams(turns=[2], min_characters=3, earlier_turn_fraction=0.0)
    assert pair_up(tmp_path, others, long_enough) == []  # d has no partner left: "ok" is too short
    assert len(pair_up(tmp_path, others)) == 2


def test_pairs_depend_on_names_and_seed_only(tmp_path: Path) -> None:
    conversations = [talk(f"c{i}", "Hi", f"reply {i}", "And?", f"more {i}") for i in range(40)]
    half = RelevanceParams(turns=[2, 4], min_characters=1, earlier_turn_fraction=0.5)
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
