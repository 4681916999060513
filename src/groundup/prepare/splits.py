"""Which split a record belongs to: a pure function of its id, so it stays the same when the corpus grows."""

from groundup.core.formats.hashing import hash_fraction
from groundup.core.formats.records import Conversation, Record, is_dialogue
from groundup.runner.params.prepare import SplitParams

# Held-out splits first: a duplicate is dropped from whichever comes later, so train never holds a held-out text.
SPLITS = ("judge", "monitor", "test", "val", "train")
DATA_SPLITS = ("train", "val", "test")


def split_of(record: Record, params: SplitParams, seed: int) -> str:
    position = hash_fraction(seed, "split", record.id)
    for split, share in (
        ("val", params.val),
        ("test", params.test),
        ("monitor", params.monitor),
        ("judge", params.judge),
    ):
        if position < share:
            return split if split in DATA_SPLITS or can_judge(record) else "train"
        position -= share
    return "train"


def can_judge(record: Record) -> bool:
    """Judges learn from who replied what to whom; other records are more useful in train."""
    return isinstance(record, Conversation) and is_dialogue(record)
