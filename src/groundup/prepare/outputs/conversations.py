"""Whole conversations, on which the judge and the monitor are fitted."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Conversation, Record, mean_rating, read_records, to_messages
from groundup.prepare.outputs.rows import Records, Sizes, write_rows
from groundup.runner.params.prepare import PrepareParams


def write_monitor(params: PrepareParams, records: Records, target: Path) -> Sizes:
    return {"monitor": write_rows(target / "conversations.jsonl", conversations(read_records(records["monitor"])))}


def write_judge(params: PrepareParams, records: Records, target: Path) -> Sizes:
    return {"judge": write_rows(target / "conversations.jsonl", conversations(read_records(records["judge"])))}


def conversations(records: Iterable[Record]) -> Iterator[Row]:
    """{id, source, rating, ratings, messages}; ratings may be missing."""
    for record in records:
        assert isinstance(record, Conversation)  # split_of guarantees it
        rating = mean_rating(record)
        yield {
            "id": record.id,
            "source": record.source,
            "rating": None if rating is None else round(rating, 6),
            "ratings": record.ratings,
            "messages": to_messages(record, len(record.turns)),
        }
