"""Preference pairs without ratings: the person's own reply, and a reply that belongs elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from groundup.core.formats.hashing import hash_fraction, hash_integer
from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Conversation, is_dialogue, to_messages
from groundup.prepare.outputs.rows import conversation_at, with_offsets
from groundup.runner.params.prepare import RelevanceParams

# The wrong reply is one of the NEAR next shorter or longer ones, so that length does not give it away.
NEAR = 20
# Upper bound, measured with tracemalloc on CPython 3.11, 64 bits (tests/prepare/outputs/test_relevance.py).
BYTES_PER_REPLY = 260


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply in memory; its text stays in the file."""

    num_words: int
    conversation_id: str
    turn: int  # from 0
    offset: int  # of the row of its conversation, in bytes


def relevance_pairs(path: Path, params: RelevanceParams, seed: int) -> Iterator[Row]:
    """A pair for each reply at the given turns of every dialogue in `path`, which holds records."""
    with path.open("rb") as file:
        replies = sorted(
            find_replies(file, params),
            key=lambda reply: (reply.num_words, hash_integer(seed, "reply order", name(reply))),
        )
        for place in sorted(range(len(replies)), key=lambda i: hash_integer(seed, "relevance", name(replies[i]))):
            if (pair := make_pair(file, replies, place, params, seed)) is not None:
                yield pair


def relevance_bytes_per_conversation(params: RelevanceParams) -> int:
    """Upper bound of the memory that pairing takes per dialogue of a split."""
    return BYTES_PER_REPLY * len(params.turns)


def name(reply: Reply) -> str:
    return f"{reply.conversation_id}@{reply.turn}"


def find_replies(file: BinaryIO, params: RelevanceParams) -> Iterator[Reply]:
    for offset, record in with_offsets(file):
        if isinstance(record, Conversation) and is_dialogue(record):
            for num_turns in params.turns:
                if (
                    num_turns <= len(record.turns)
                    and len(said := record.turns[num_turns - 1][1]) >= params.min_characters
                ):
                    yield Reply(len(said.split()), record.id, num_turns - 1, offset)


def make_pair(file: BinaryIO, replies: list[Reply], place: int, params: RelevanceParams, seed: int) -> Row | None:
    """None if all replies nearby are of the same conversation or have the same words."""
    reply = replies[place]
    conversation = conversation_at(file, reply.offset)
    messages = to_messages(conversation, reply.turn + 1)
    said = messages[-1]["content"]
    other, wrong = reply, None
    if hash_fraction(seed, "earlier turn", name(reply)) < params.earlier_turn_fraction:
        wrong = earlier_turn(conversation, reply, said, seed)
    if wrong is None:
        around = [*range(max(0, place - NEAR), place), *range(place + 1, min(len(replies), place + 1 + NEAR))]
        order = partial(hash_integer, seed, f"elsewhere {name(reply)}")
        for candidate in sorted((replies[i] for i in around), key=lambda reply: order(name(reply))):
            if candidate.conversation_id == reply.conversation_id:
                continue
            text = conversation_at(file, candidate.offset).turns[candidate.turn][1]
            if text != said:
                other, wrong = candidate, text
                break
    if wrong is None:
        return None
    return {
        "id": f"{name(reply)}>{name(other)}",
        "kind": "relevance",
        "source": conversation.source,
        "chosen": messages,
        "rejected": [*messages[:-1], {"role": "assistant", "content": wrong}],
        "margin": 0.0,
        "chosen_id": reply.conversation_id,
        "rejected_id": other.conversation_id,
        "chosen_rating": None,
        "rejected_rating": None,
    }


def earlier_turn(conversation: Conversation, reply: Reply, said: str, seed: int) -> str | None:
    """An earlier turn of this conversation: on the topic, but not a reply to the last turn."""
    earlier = [text for _, text in conversation.turns[: reply.turn] if text != said]
    return earlier[hash_integer(seed, "which turn", name(reply)) % len(earlier)] if earlier else None
