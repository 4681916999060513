"""Preference pairs: first turns of two rated conversations about one opening; the better rated one is chosen."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from groundup.core.formats.hashing import hash_integer
from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import (
    Conversation,
    Preference,
    is_dialogue,
    mean_rating,
    to_messages,
)
from groundup.prepare.outputs.relevance import relevance_pairs
from groundup.prepare.outputs.rows import Records, Sizes, conversation_at, with_offsets, write_splits
from groundup.runner.params.prepare import PreferenceParams, PrepareParams

# Partners proposed per conversation, as a multiple of its maximum of pairs: some are used up when its turn
# comes. If a conversation has at most that number of eligible partners, all of them are proposed.
PROPOSALS_PER_PAIR = 2
# Upper bounds, measured with tracemalloc on CPython 3.11, 64 bits (tests/prepare/outputs/test_preferences.py).
BYTES_PER_CONVERSATION = 450  # Rated, its id, its entry in the list of its opening
BYTES_PER_PAIR = 75  # proposals and their order, during the largest opening
KINDS = ("rating", "given", "relevance")  # of pairs
ROUNDING = 1e-9  # tolerance for a rating difference of exactly the gap, despite float rounding


@dataclass(frozen=True, slots=True)
class Rated:
    """A rated conversation in memory; its text stays in the file."""

    id: str
    rating: float
    num_turns: int
    offset: int  # of its row, in bytes


def write(params: PrepareParams, records: Records, target: Path) -> Sizes:
    def pairs_of_all_kinds(path: Path) -> Iterator[Row]:
        yield from preferences(path, params.preferences, params.seed)
        yield from relevance_pairs(path, params.preferences.relevance, params.seed)

    return write_splits(target, records, pairs_of_all_kinds)


def preferences(path: Path, params: PreferenceParams, seed: int) -> Iterator[Row]:
    """Pairs from the user's data in their order, then the pairs of each opening; `path` holds records.

    The texts stay in the file: `pairing_bytes_per_conversation` gives the memory.
    """
    openings: dict[bytes, list[Rated]] = {}
    with path.open("rb") as file:
        for offset, record in with_offsets(file):
            if isinstance(record, Preference):
                yield given_pair(record)
            elif isinstance(record, Conversation) and (rating := comparable_rating(record)) is not None:
                key = blake2b(f"{record.source}\n{record.opening}".encode(), digest_size=16).digest()
                openings.setdefault(key, []).append(Rated(record.id, rating, len(record.turns), offset))
        for key in sorted(openings):
            for num_turns in params.excerpt_turns:
                long_enough = [rated for rated in openings[key] if rated.num_turns >= num_turns]
                yield from pairs(file, long_enough, num_turns, params, seed)


def comparable_rating(conversation: Conversation) -> float | None:
    """None if the rating is not comparable: the conversation has no opening or is not a dialogue."""
    return mean_rating(conversation) if conversation.opening is not None and is_dialogue(conversation) else None


def pairing_bytes_per_conversation(params: PreferenceParams) -> int:
    """Upper bound of the memory that pairing takes per rated conversation of a split."""
    return BYTES_PER_CONVERSATION + BYTES_PER_PAIR * params.max_pairs_per_conversation


def pairs(
    file: BinaryIO, conversations: list[Rated], num_turns: int, params: PreferenceParams, seed: int
) -> Iterator[Row]:
    """Pairs of excerpts of one length in the order of their hash; the number of pairs per conversation is limited."""
    worst_first = sorted(conversations, key=lambda rated: (rated.rating, hash_integer(seed, "rank", rated.id)))
    used: Counter[str] = Counter()
    for better, worse in proposals(worst_first, params, seed):
        if max(used[better.id], used[worse.id]) >= params.max_pairs_per_conversation:
            continue
        conversation = conversation_at(file, better.offset)
        chosen = to_messages(conversation, num_turns)  # num_turns is even, so both end on the assistant
        rejected = to_messages(conversation_at(file, worse.offset), num_turns)
        if chosen != rejected:
            used.update((better.id, worse.id))
            yield {
                "id": f"{better.id}>{worse.id}@{len(chosen)}",
                "kind": "rating",
                "source": conversation.source,
                "chosen": chosen,
                "rejected": rejected,
                "margin": round((better.rating - worse.rating) * params.margin_scale, 6),
                "chosen_id": better.id,
                "rejected_id": worse.id,
                "chosen_rating": round(better.rating, 6),
                "rejected_rating": round(worse.rating, 6),
                "wrong_from": None,
            }


def proposals(worst_first: list[Rated], params: PreferenceParams, seed: int) -> Iterator[tuple[Rated, Rated]]:
    """(better, worse) in the order of their hash; the number per conversation does not grow with the corpus.

    By the rating gap, the eligible partners of a conversation are the beginning and the end of the list. It gets a
    systematic sample of them: evenly spaced from a start that its hash decides, so that all ratings occur.
    """
    n, most = len(worst_first), PROPOSALS_PER_PAIR * params.max_pairs_per_conversation
    ratings = np.array([rated.rating for rated in worst_first])
    ends_of_worse = np.searchsorted(ratings, ratings - params.min_rating_gap + ROUNDING, side="right")
    starts_of_better = np.searchsorted(ratings, ratings + params.min_rating_gap - ROUNDING, side="left")
    parts = [np.empty(0, dtype=np.int64)]  # better * n + worse, both as positions in the list
    for place, (rated, worse, better) in enumerate(
        zip(worst_first, ends_of_worse.tolist(), starts_of_better.tolist(), strict=True)
    ):
        drawn = systematic_sample(worse + n - better, most, hash_integer(seed, "partners", rated.id))
        partners = np.where(drawn < worse, drawn, drawn - worse + better)
        parts.append(np.maximum(place, partners) * n + np.minimum(place, partners))
    pairs = np.unique(np.concatenate(parts))
    del parts
    for index in np.argsort(hashes(pairs, worst_first, seed)):
        yield worst_first[pairs[index] // n], worst_first[pairs[index] % n]


def systematic_sample(num: int, most: int, start: int) -> NDArray[np.int64]:
    """At most `most` different numbers below `num`, evenly spaced on a circle from `start`."""
    size = min(num, most)
    return (start % num + np.arange(size) * num // size) % num if size else np.empty(0, dtype=np.int64)


def hashes(pairs: NDArray[np.int64], worst_first: list[Rated], seed: int) -> NDArray[np.uint64]:
    """[num_pairs]; depends only on the names, so that a pair keeps its rank when other pairs come or go."""
    n = len(worst_first)
    names = (f"{worst_first[pair // n].id}\n{worst_first[pair % n].id}" for pair in pairs)
    return np.fromiter((hash_integer(seed, "pair", name) for name in names), dtype=np.uint64, count=len(pairs))


def given_pair(record: Preference) -> Row:
    """Both sides have the id of the row, which is the unit of resampling."""
    return {
        "id": record.id,
        "kind": "given",
        "source": record.source,
        "chosen": record.prompt + record.chosen,
        "rejected": record.prompt + record.rejected,
        "margin": record.margin,
        "chosen_id": record.id,
        "rejected_id": record.id,
        "chosen_rating": None,
        "rejected_rating": None,
        "wrong_from": None,
    }
