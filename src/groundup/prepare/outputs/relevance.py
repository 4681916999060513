"""Preference pairs without ratings: the person's own reply, and a reply that belongs elsewhere."""

from collections.abc import Collection, Iterable, Iterator, Sequence
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
QUESTION = "?"
# Upper bound, measured with tracemalloc on CPython 3.11, 64 bits (tests/prepare/outputs/test_relevance.py).
BYTES_PER_REPLY = 350


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply in memory; its text stays in the file."""

    num_words: int
    conversation_id: str
    turn: int  # from 0
    offset: int  # of the row of its conversation, in bytes
    point: int  # of the conversation: its turn, and whether it follows a question
    opening: int  # its hash; 0 without one


@dataclass(frozen=True)
class ReplyIndex:
    """All replies of a split, the shortest first, and groups of them: at the same point, and with the same opening.

    Wrong replies are at the same point as the right one. Else a greeting would tell the first turn of a conversation
    from later ones, and a policy would learn to greet.
    """

    by_length: list[Reply]
    of_point: "Groups"
    of_opening: "Groups"

    @classmethod
    def sort(cls, replies: Iterable[Reply], seed: int) -> "ReplyIndex":
        by_length = sorted(
            replies, key=lambda reply: (reply.num_words, hash_integer(seed, "reply order", name(reply)))
        )
        return cls(
            by_length,
            Groups.of([reply.point for reply in by_length]),
            Groups.of([hash_integer(0, "opening", f"{reply.point}\n{reply.opening}") for reply in by_length]),
        )

    def near(self, place: int) -> list[Reply]:
        """The next shorter and longer replies at the same point."""
        return [self.by_length[i] for i in self.of_point.near(place)]

    def near_of_opening(self, place: int) -> list[Reply]:
        """Those of conversations with the same opening."""
        if not self.by_length[place].opening:
            return []
        return [self.by_length[i] for i in self.of_opening.near(place)]


@dataclass(frozen=True)
class Groups:
    """Items 0 to N - 1 by group, [N] each; in a group they keep their order."""

    keys: NDArray[np.uint64]  # of each item
    items: NDArray[np.int64]  # one group after the other
    places: NDArray[np.int64]  # of each item in `items`

    @classmethod
    def of(cls, keys: Sequence[int]) -> "Groups":
        array = np.array(keys, dtype=np.uint64)
        items = np.argsort(array, kind="stable")
        return cls(array, items, np.argsort(items))

    def near(self, item: int) -> list[int]:
        """Up to NEAR items of its group before it, and as many after it."""
        place = int(self.places[item])
        found = [*self.items[max(0, place - NEAR) : place], *self.items[place + 1 : place + 1 + NEAR]]
        return [int(other) for other in found if self.keys[other] == self.keys[item]]


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
                    point = 2 * num_turns + (QUESTION in record.turns[num_turns - 2][1])
                    yield Reply(len(said.split()), record.id, num_turns - 1, offset, point, opening)


def pairs_of_reply(
    file: BinaryIO, replies: ReplyIndex, place: int, params: RelevanceParams, seed: int
) -> Iterator[Row]:
    """Up to `pairs_per_reply` with different wrong replies; none if all nearby are of the same conversation.

    `wrong_from` is earlier_turn or same_opening for the shares that the params give, where there is such a reply, and
    else elsewhere: of any other conversation, at the same point of it.
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
