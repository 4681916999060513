"""Which split a record belongs to: a pure function of the record, so it stays the same when the corpus grows.

Where a source names its speakers, it is people who are held out: each has a home split by the hash of the name, and a
conversation goes to the most held-out home of its speakers. People cannot be kept apart altogether, because nearly all
of a real corpus is connected by who talked to whom; the other speaker of a held-out conversation may be in train.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from groundup.core.formats.hashing import hash_fraction
from groundup.core.formats.records import Conversation, Record, is_dialogue, read_records
from groundup.runner.params.prepare import SplitParams

# The most held-out split first. Of duplicates the one in the first of them is kept, so train holds no held-out text.
SPLITS = ("judge", "monitor", "test", "val", "train")
DATA_SPLITS = ("train", "val", "test")


def split_of(record: Record, params: SplitParams, seed: int) -> str:
    people = named_people(record)
    if people:
        split = min((home_of(person, params, seed) for person in people), key=SPLITS.index)
    else:
        split = home_of(record.id, params, seed)
    if split in DATA_SPLITS or can_judge(record):
        return split
    return "test" if people else "train"  # what a judge cannot use trains the models, unless a held-out person said it


def home_of(name: str, params: SplitParams, seed: int) -> str:
    position = hash_fraction(seed, "split", name)
    for split, share in (
        ("val", params.val),
        ("test", params.test),
        ("monitor", params.monitor),
        ("judge", params.judge),
    ):
        if position < share:
            return split
        position -= share
    return "train"


def can_judge(record: Record) -> bool:
    """Judges learn from who replied what to whom; other records are more useful in train."""
    return isinstance(record, Conversation) and is_dialogue(record)


def named_people(record: Record) -> list[str]:
    """One name each in all of the corpus; empty where the source names nobody."""
    return [f"{record.source}/{name}" for name in record.speakers] if isinstance(record, Conversation) else []


def count_met(records: Mapping[str, Path]) -> dict[str, dict[str, int]]:
    """Of each held-out split: the replies by people with a name, and those of them by people who speak in train."""
    in_train = {person for record in read_records(records["train"]) for person in named_people(record)}
    counts = {}
    for split in reversed(SPLITS[:-1]):
        met = [person in in_train for person in repliers(read_records(records[split]))]
        counts[split] = {"replies": len(met), "by_people_in_train": sum(met)}
    return counts


def repliers(records: Iterable[Record]) -> Iterator[str]:
    """Who gave each reply of an assistant, where the source names the speakers."""
    for record in records:
        if isinstance(record, Conversation) and record.speakers and is_dialogue(record):
            assistant = named_people(record)[1]
            yield from (assistant for speaker, _ in record.turns if speaker == 1)
