"""Preference pairs: first turns of two rated conversations about one opening, the better rated one chosen."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from groundup.data.hashing import hash_integer
from groundup.data.jsonl import Row
from groundup.data.records import Conversation, Message, Preference, Record, mean_rating, to_messages
from groundup.data.splits import can_judge
from groundup.frame.params.prepare import PreferenceParams


@dataclass(frozen=True)
class Excerpt:
    id: str
    source: str
    rating: float
    messages: list[Message]


def preferences(records: Iterable[Record], params: PreferenceParams, seed: int) -> Iterator[Row]:
    """Pairs that users bring as they come, then the pairs of each opening.

    The excerpts of rated conversations are held: less than the dedup index took for them, which is gone by now.
    """
    comparable: dict[tuple[str, str, int], list[Excerpt]] = {}
    for record in records:
        if isinstance(record, Preference):
            yield given_pair(record)
        elif isinstance(record, Conversation):
            for num_turns in params.excerpt_turns:
                if (excerpt := take_excerpt(record, num_turns)) is not None:
                    comparable.setdefault((record.source, record.opening or "", num_turns), []).append(excerpt)
    for key in sorted(comparable):
        yield from pairs(comparable[key], params, seed)


def take_excerpt(conversation: Conversation, num_turns: int) -> Excerpt | None:
    """The first turns of a rated dialogue; an even number of them ends on the assistant."""
    rating = mean_rating(conversation)
    if rating is None or not can_judge(conversation) or len(conversation.turns) < num_turns:
        return None
    return Excerpt(conversation.id, conversation.source, rating, to_messages(conversation, num_turns))


def pairs(excerpts: list[Excerpt], params: PreferenceParams, seed: int) -> Iterator[Row]:
    """Pairs of excerpts of one length in the order of their hash, each conversation in at most so many."""
    by_rating = sorted(excerpts, key=lambda excerpt: (-excerpt.rating, excerpt.id))
    candidates = [
        (hash_integer(seed, "pair", f"{better.id}\n{worse.id}"), better, worse)
        for better, worse in combinations(by_rating, 2)
        if better.rating - worse.rating >= params.min_rating_gap and better.messages != worse.messages
    ]
    used: Counter[str] = Counter()
    for _, better, worse in sorted(candidates, key=lambda candidate: candidate[0]):
        if max(used[better.id], used[worse.id]) < params.max_pairs_per_conversation:
            used.update((better.id, worse.id))
            yield {
                "id": f"{better.id}>{worse.id}@{len(better.messages)}",
                "source": better.source,
                "chosen": better.messages,
                "rejected": worse.messages,
                "margin": round((better.rating - worse.rating) * params.margin_scale, 6),
                "chosen_id": better.id,
                "rejected_id": worse.id,
                "chosen_rating": round(better.rating, 6),
                "rejected_rating": round(worse.rating, 6),
            }


def given_pair(record: Preference) -> Row:
    """Both sides carry the id of the row: it is the unit of resampling."""
    return {
        "id": record.id,
        "source": record.source,
        "chosen": record.prompt + record.chosen,
        "rejected": record.prompt + record.rejected,
        "margin": record.margin,
        "chosen_id": record.id,
        "rejected_id": record.id,
        "chosen_rating": None,
        "rejected_rating": None,
    }
