from collections import Counter

from groundup.core.formats.records import Conversation, Record, Text
from groundup.prepare.splits import split_of
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
