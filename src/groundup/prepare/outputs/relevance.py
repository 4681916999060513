"""Preference pairs without ratings: the person's own reply, and a reply that belongs elsewhere."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from groundup.core.formats.hashing import hash_fraction, hash_integer
from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Conversation, is_dialogue, to_messages
from groundup.prepare.outputs.rows import conversation_at, with_offsets
from groundup.runner.params.prepare import RelevanceParams

# The wrong reply is one of the NEAR next shorter or longer ones, so that length does not give it away.
NEAR = 20
# Upper bound, measured with tracemalloc on CPython 3.11, 64 bits (tests/prepare/outputs/test_relevance.py).
BYTES_PER_REPLY = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply in memory; its text stays in the file."""

    num_words: int
    conversation_id: str
    turn: int  # from 0
    offset: int  # of the row of its conversation, in bytes
    opening: int  # its hash; 0 without one


@dataclass(frozen=True)
class ReplyIndex:
    """All replies of a split, the shortest first, and their places by opening: [num_replies] each."""

    by_length: list[Reply]
    by_opening: NDArray[np.int64]  # places in by_length, grouped by opening, the shortest first in each group
    places_by_opening: NDArray[np.int64]  # the inverse

    @classmethod
    def sort(cls, replies: Iterable[Reply], seed: int) -> "ReplyIndex":
        by_length = sorted(
            replies, key=lambda reply: (reply.num_words, hash_integer(seed, "reply order", name(reply)))
        )
        openings = np.fromiter((reply.opening for reply in by_length), dtype=np.uint64, count=len(by_length))
        by_opening = np.argsort(openings, kind="stable")
        return cls(by_length, by_opening, np.argsort(by_opening))

    def near(self, place: int) -> list[Reply]:
        """The next shorter and longer replies."""
        return [self.by_length[i] for i in around(place, len(self.by_length))]

    def near_of_opening(self, place: int) -> list[Reply]:
        """Those of conversations with the same opening."""
        opening = self.by_length[place].opening
        places = self.by_opening[around(int(self.places_by_opening[place]), len(self.by_length))]
        return [reply for reply in (self.by_length[i] for i in places) if opening and reply.opening == opening]


def around(place: int, num: int) -> list[int]:
    return [*range(max(0, place - NEAR), place), *range(place + 1, min(num, place + 1 + NEAR))]


def relevance_pairs(path: Path, params: RelevanceParams, seed: int) -> Iterator[Row]:
    """Pairs for each reply at the given turns of every dialogue in `path`, which holds records."""
    with path.open("rb") as file:
        replies = ReplyIndex.sort(find_replies(file, params), seed)
        order = partial(hash_integer, seed, "relevance")
        for place in sorted(range(len(replies.by_length)), key=lambda i: order(name(replies.by_length[i]))):
            yield from pairs_of_reply(file, replies, place, params, seed)


def relevance_bytes_per_conversation(params: RelevanceParams) -> int:
    """Upper bound of the memory that pairing takes per dialogue of a split."""
    return BYTES_PER_REPLY * len(params.turns)


def name(reply: Reply) -> str:
    return f"{reply.conversation_id}@{reply.turn}"


def find_replies(file: BinaryIO, params: RelevanceParams) -> Iterator[Reply]:
    for offset, record in with_offsets(file):
        if isinstance(record, Conversation) and is_dialogue(record):
            opening = 0 if record.opening is None else hash_integer(0, "opening", f"{record.source}\n{record.opening}")
            for num_turns in params.turns:
                if (
                    num_turns <= len(record.turns)
                    and len(said := record.turns[num_turns - 1][1]) >= params.min_characters
                ):
                    yield Reply(len(said.split()), record.id, num_turns - 1, offset, opening)


def pairs_of_reply(
    file: BinaryIO, replies: ReplyIndex, place: int, params: RelevanceParams, seed: int
) -> Iterator[Row]:
    """Up to `pairs_per_reply` with different wrong replies; none if all nearby are of the same conversation.

    `wrong_from` is earlier_turn or same_opening for the shares that the params give, where there is such a reply, and
    else elsewhere: of any other conversation.
    """
    reply = replies.by_length[place]
    conversation = conversation_at(file, reply.offset)
    messages = to_messages(conversation, reply.turn + 1)
    used = {messages[-1]["content"]}
    for number in range(params.pairs_per_reply):
        drawn = hash_fraction(seed, f"wrong from {number}", name(reply))
        wrong_from, found = "elsewhere", None
        if drawn < params.earlier_turn_fraction:
            wrong_from, found = "earlier_turn", earlier_turn(conversation, reply, used, seed)
        elif drawn < params.earlier_turn_fraction + params.same_opening_fraction:
            wrong_from, found = "same_opening", other_reply(file, replies.near_of_opening(place), reply, used, seed)
        if found is None:
            wrong_from, found = "elsewhere", other_reply(file, replies.near(place), reply, used, seed)
        if found is None:
            return
        other, wrong = found
        used.add(wrong)
        yield {
            "id": f"{name(reply)}>{name(other)}#{number}",
            "kind": "relevance",
            "source": conversation.source,
            "chosen": messages,
            "rejected": [*messages[:-1], {"role": "assistant", "content": wrong}],
            "margin": 0.0,
            "chosen_id": reply.conversation_id,
            "rejected_id": other.conversation_id,
            "chosen_rating": None,
            "rejected_rating": None,
            "wrong_from": wrong_from,
        }


def other_reply(
    file: BinaryIO, candidates: list[Reply], reply: Reply, used: Collection[str], seed: int
) -> tuple[Reply, str] | None:
    """One of another conversation and in other words than those used."""
    order = partial(hash_integer, seed, f"elsewhere {name(reply)}")
    for candidate in sorted(candidates, key=lambda candidate: order(name(candidate))):
        if candidate.conversation_id != reply.conversation_id:
            text = conversation_at(file, candidate.offset).turns[candidate.turn][1]
            if text not in used:
                return candidate, text
    return None


def earlier_turn(
    conversation: Conversation, reply: Reply, used: Collection[str], seed: int
) -> tuple[Reply, str] | None:
    """An earlier turn of this conversation: on the topic, but not a reply to the last turn."""
    earlier = [text for _, text in conversation.turns[: reply.turn] if text not in used]
    return (reply, earlier[hash_integer(seed, "which turn", name(reply)) % len(earlier)]) if earlier else None
