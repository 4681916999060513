"""Which split a record goes to: by its own hash, or by those of the people who speak in it."""

import random
from collections import Counter
from pathlib import Path

import pytest

from groundup.core.formats.records import Conversation, Record, Text, write_records
from groundup.prepare.splits import SPLITS, count_met, home_of, split_of
from groundup.runner.params.prepare import SplitParams

PARAMS = SplitParams(val=0.05, test=0.12, monitor=0.05, judge=0.15)
RATINGS = {"witty": 7, "interesting": 8, "upbeat": 9}


def rated(name: str) -> Conversation:
    return Conversation(name, "s", "Topic?", [(0, "hi"), (1, "hello")], RATINGS)


def test_shares_of_rated_conversations() -> None:
    counts = Counter(split_of(rated(f"c{i}"), PARAMS, 1) for i in range(20_000))
    shares = {split: count / 20_000 for split, count in counts.items()}
    expected = {"train": 0.63, "val": 0.05, "test": 0.12, "monitor": 0.05, "judge": 0.15}
    assert {split: round(share, 2) for split, share in shares.items()} == expected


def test_only_dialogues_go_to_the_judges_and_the_rest_of_their_share_to_train() -> None:
    for i in range(400):
        name, turns = f"c{i}", [(0, "hi"), (1, "hello")]
        share = split_of(rated(name), PARAMS, 1)
        assert split_of(Conversation(name, "s", None, turns, None), PARAMS, 1) == share  # unrated, no opening
        unfit: list[Record] = [
            Text(name, "s", "text"),
            Conversation(name, "s", "Topic?", [*turns, (2, "a third")], RATINGS),
        ]
        for record in unfit:
            assert split_of(record, PARAMS, 1) == ("train" if share in ("monitor", "judge") else share)


def test_the_split_depends_on_id_and_seed_only() -> None:
    one = split_of(Text("a", "s", "text"), PARAMS, 1)
    assert all(split_of(Text("a", "other", text), PARAMS, 1) == one for text in ("b", "c"))
    assert len({split_of(rated("c1"), PARAMS, seed) for seed in range(50)}) == 5


def test_records_without_named_speakers_split_as_they_always_did() -> None:
    """By the hash of the id alone: these literals are of the version before people were held out."""
    splits = [split_of(rated(f"c{i}"), PARAMS, 1) for i in range(16)]
    held_out = {0: "test", 2: "monitor", 6: "judge", 7: "test", 10: "judge", 14: "test"}
    assert splits == [held_out.get(i, "train") for i in range(16)]
    texts = [split_of(Text(f"c{i}", "s", "text"), PARAMS, 1) for i in range(16)]
    assert texts == [split if split in ("train", "test") else "train" for split in splits]


# By PARAMS and seed 1, for the source s.
HOMES = {
    "Ada": "val",
    "Ben": "train",
    "Cleo": "train",
    "Dan": "monitor",
    "Eve": "test",
    "Fay": "train",
    "Wes": "judge",
}


def talk(name: str, *speakers: str, source: str = "s") -> Conversation:
    turns = [(i % len(speakers), "hi") for i in range(4)]
    return Conversation(name, source, None, turns, None, list(speakers))


def test_each_person_has_a_home() -> None:
    assert {name: home_of(f"s/{name}", PARAMS, 1) for name in HOMES} == HOMES
    shares = Counter(home_of(f"s/person {i}", PARAMS, 1) for i in range(20_000))
    expected = {"train": 0.63, "val": 0.05, "test": 0.12, "monitor": 0.05, "judge": 0.15}
    assert {split: round(count / 20_000, 2) for split, count in shares.items()} == expected


@pytest.mark.parametrize(
    ("speakers", "split"),
    [
        (("Ben", "Cleo"), "train"),
        (("Ben", "Ada"), "val"),
        (("Ada", "Ben"), "val"),
        (("Eve", "Ada"), "test"),
        (("Dan", "Eve"), "monitor"),
        (("Dan", "Wes"), "judge"),
        (("Fay", "Wes"), "judge"),
        (("Ben", "Cleo", "Fay"), "train"),
        (("Ben", "Ada", "Fay"), "val"),
        (("Wes",), "test"),  # a monologue does not serve a judge, and train must not have its words
        (("Dan",), "test"),
        (("Ben", "Cleo", "Wes"), "test"),
        (("Ben",), "train"),
        (("Ada",), "val"),
    ],
)
def test_a_conversation_goes_to_the_most_held_out_home(speakers: tuple[str, ...], split: str) -> None:
    assert {split_of(talk(f"c{i}", *speakers), PARAMS, 1) for i in range(20)} == {split}


def test_names_count_within_their_source() -> None:
    splits = {split_of(talk("c", "Wes", "Ben", source=f"source {i}"), PARAMS, 1) for i in range(200)}
    assert splits == set(SPLITS)


def crowd(num_conversations: int) -> list[Conversation]:
    """Made-up talks and monologues of 80 people, most of whom are connected by a chain of partners."""
    rng = random.Random(1)
    people = [f"person {i}" for i in range(80)]
    return [talk(f"c{i}", *rng.sample(people, rng.choice((1, 2, 2, 3)))) for i in range(num_conversations)]


def test_no_held_out_person_speaks_in_train() -> None:
    conversations = crowd(600)
    splits = {c.id: split_of(c, PARAMS, 1) for c in conversations}
    assert set(splits.values()) == set(SPLITS)
    in_train = {name for c in conversations if splits[c.id] == "train" for name in c.speakers}
    homes = {name: home_of(f"s/{name}", PARAMS, 1) for c in conversations for name in c.speakers}
    assert {homes[name] for name in in_train} == {"train"}
    for conversation in conversations:
        if splits[conversation.id] != "train":  # somebody in it is new to whoever was trained
            assert set(conversation.speakers) - in_train
        if splits[conversation.id] in ("judge", "monitor"):
            assert len(conversation.speakers) == 2


def test_a_larger_corpus_moves_no_conversation() -> None:
    few, many = crowd(100), crowd(600)
    assert few == many[:100]
    assert [split_of(c, PARAMS, 1) for c in few] == [split_of(c, PARAMS, 1) for c in many[:100]]


def test_replies_by_people_who_speak_in_train_are_counted(tmp_path: Path) -> None:
    unnamed = Conversation("u", "s", None, [(0, "hi"), (1, "hello")], None)
    records: dict[str, list[Record]] = {
        "train": [talk("t", "Ben", "Cleo"), Text("x", "s", "text")],
        "val": [talk("v1", "Ada", "Ben"), talk("v2", "Ben", "Ada"), talk("v3", "Ada", "Fay"), unnamed],
        "test": [talk("e1", "Eve", "Cleo"), talk("e2", "Wes"), talk("e3", "Eve", "Ben", "Cleo")],
        "monitor": [],
        "judge": [talk("j", "Wes", "Ben", source="other")],
    }
    for split, of_split in records.items():
        write_records(tmp_path / f"{split}.jsonl", of_split)
    assert count_met({split: tmp_path / f"{split}.jsonl" for split in SPLITS}) == {
        "val": {"replies": 6, "by_people_in_train": 2},  # two by Ben; Ada is held out, and Fay is not in train yet
        "test": {"replies": 2, "by_people_in_train": 2},
        "monitor": {"replies": 0, "by_people_in_train": 0},
        "judge": {"replies": 2, "by_people_in_train": 0},  # another source's Ben
    }
