"""Preference pairs as the reward model reads them: rendered, in three groups, in training order."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.training.runtime import draw
from groundup.runner.files import restore

BATCHES_PER_STRETCH = 16
# What people prefer (rated or given as pairs); which reply belongs to the prompt, against one from elsewhere or from a
# conversation with the same opening; what is no repeat of an earlier turn; which reply a person wrote.
PREFERENCE, RELEVANCE, SAME_OPENING, REPEAT, SAMPLED = (
    "preference",
    "relevance",
    "same_opening",
    "repeat",
    "sampled",
)
RELEVANCE_GROUPS = {"elsewhere": RELEVANCE, "same_opening": SAME_OPENING, "earlier_turn": REPEAT}  # by wrong_from
READING = (RELEVANCE, SAME_OPENING)  # pairs that nothing but the conversation tells apart
GROUP_OF_KIND = {"rating": PREFERENCE, "given": PREFERENCE, "relevance": RELEVANCE, "sampled": SAMPLED}
PREFIX = {  # of a group, in names of figures
    PREFERENCE: "",
    RELEVANCE: "relevance_",
    SAME_OPENING: "same_opening_",
    REPEAT: "repeat_",
    SAMPLED: "sampled_",
}
MOVED_TO = "moved_to"  # column: the conversation whose prompt a pair was moved to
COLUMNS = (
    *("source", "kind", "chosen", "rejected", "margin"),
    *("chosen_id", "rejected_id", "chosen_rating", "rejected_rating", "wrong_from"),
)


@dataclass(frozen=True)
class Pair:
    """Both rendered sides, and their row."""

    chosen: list[int]
    rejected: list[int]
    row: Row

    @property
    def margin(self) -> float:
        return self.row["margin"]

    @property
    def conversations(self) -> tuple[str, ...]:
        """Of the chosen side, of the rejected one and, if it is another's, of the prompt."""
        return self.row["chosen_id"], self.row["rejected_id"], *([self.row[MOVED_TO]] if MOVED_TO in self.row else [])

    @property
    def group(self) -> str:
        return group_of(self.row)

    def reply(self, side: str) -> str:
        text: str = self.row[side][-1]["content"]
        return text


def group_of(row: Row) -> str:
    group = GROUP_OF_KIND[row["kind"]]
    return RELEVANCE_GROUPS[row["wrong_from"]] if group == RELEVANCE else group


def load_pairs(
    path: Path, tokenizer: PreTrainedTokenizerFast, max_length: int, groups: Collection[str]
) -> tuple[list[Pair], int]:
    """(pairs of these groups, how many of them were left out because a side is over max_length)."""
    pairs = []
    for number, row in enumerate(read_jsonl(path, COLUMNS), start=1):
        if row["kind"] not in GROUP_OF_KIND:
            raise ValueError(
                f"{path}, line {number}: kind {row['kind']!r} is not one of {', '.join(GROUP_OF_KIND)}. "
                f"{restore(path.parent)}"
            )
        if row["kind"] == RELEVANCE and row["wrong_from"] not in RELEVANCE_GROUPS:
            raise ValueError(
                f"{path}, line {number}: wrong_from {row['wrong_from']!r} is not one of "
                f"{', '.join(RELEVANCE_GROUPS)}. {restore(path.parent)}"
            )
        if group_of(row) not in groups:
            continue
        chosen, rejected = (render(tokenizer, row[side], reply_next=False) for side in ("chosen", "rejected"))
        pairs.append(Pair(chosen, rejected, row))
    kept = [pair for pair in pairs if max(len(pair.chosen), len(pair.rejected)) <= max_length]
    if pairs and not kept:
        raise ValueError(
            f"{path.name}: none of {len(pairs)} preference pairs fits reward.max_length {max_length}; raise it, or "
            "lower prepare.preferences.excerpt_turns or min_rating_gap"
        )
    return kept, len(pairs) - len(kept)


def of_group(pairs: Sequence[Pair], *groups: str) -> list[Pair]:
    return [pair for pair in pairs if pair.group in groups]


def draw_of_each_group(pairs: Sequence[Pair], limit: int | None, seed: int) -> list[Pair]:
    """At most `limit` pairs of each group, in their original order."""
    places = {group: [place for place, pair in enumerate(pairs) if pair.group == group] for group in PREFIX}
    return [pairs[place] for place in sorted(place for of in places.values() for place in draw(of, limit, seed))]


def group_by_length(pairs: Sequence[Pair], batch_size: int, seed: int) -> list[Pair]:
    """Random order in which the pairs of a batch have similar lengths; padding was half of the work before.

    Batches are cut from sorted stretches of a shuffled list and then shuffled; a last partial one stays last.
    """
    rng = random.Random(seed)
    shuffled = rng.sample(pairs, len(pairs))
    stretch = BATCHES_PER_STRETCH * batch_size
    ordered = [
        pair
        for start in range(0, len(shuffled), stretch)
        for pair in sorted(shuffled[start : start + stretch], key=lambda p: max(len(p.chosen), len(p.rejected)))
    ]
    num_whole = len(ordered) // batch_size
    batches = [ordered[i * batch_size : (i + 1) * batch_size] for i in range(num_whole)]
    rng.shuffle(batches)
    return [pair for batch in batches for pair in batch] + ordered[num_whole * batch_size :]
