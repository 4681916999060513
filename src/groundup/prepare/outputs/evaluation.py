"""Multiple-choice sets from test records only: {query: messages, choices, gold, group_id}."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from pathlib import Path

from groundup.core.formats.hashing import hash_integer
from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import (
    Article,
    Conversation,
    Message,
    Record,
    is_dialogue,
    read_records,
    to_messages,
)
from groundup.core.text.canaries import FILE, make_canaries, write_canary_file
from groundup.prepare.outputs.encyclopedia import ask
from groundup.prepare.outputs.rows import Records, Sizes, write_rows
from groundup.runner.params.prepare import EvaluationParams, PrepareParams

# Distractors come from NEAR times as many choices of the nearest length, so that length does not reveal the gold one.
NEAR = 4


def write(params: PrepareParams, records: Records, target: Path) -> Sizes:
    if params.canaries is not None:
        write_canary_file(target / FILE, make_canaries(params.canaries, params.seed))
    sets = evaluation_sets(params.evaluation, params.chats.max_answer_characters, params.seed)
    return {
        name: write_rows(target / f"{name}.jsonl", rows(read_records(records["test"]))) for name, rows in sets.items()
    }


@dataclass(frozen=True)
class Candidate:
    """A query with its true continuation; `group_id` is the conversation or article, the unit of resampling."""

    query: list[Message]
    choice: str
    group_id: str

    def num_characters(self, choice: str) -> int:
        return sum(len(m["content"]) for m in self.query) + len(choice)


def evaluation_sets(
    params: EvaluationParams, max_answer: int, seed: int
) -> dict[str, Callable[[Iterable[Record]], list[Row]]]:
    """Name of each set and the function that writes it from the test records."""
    sources: dict[str, Callable[[Iterable[Record]], Iterator[Candidate]]] = {
        "next_reply": partial(next_replies, params=params, seed=seed),
        "topic": partial(answers, kind="topic", max_answer=max_answer, seed=seed),
        "which_entity": partial(answers, kind="entity", max_answer=max_answer, seed=seed),
        "definition": partial(answers, kind="continue", max_answer=max_answer, seed=seed),
    }

    def rows(records: Iterable[Record], name: str) -> list[Row]:
        def order(candidate: Candidate) -> int:
            return hash_integer(seed, name, candidate.group_id)

        # Holds max_items candidates, however many records there are; they also supply the distractors.
        chosen = nsmallest(params.max_items, fitting(sources[name](records), params), key=order)
        return list(choices(chosen, params, seed))

    return {name: partial(rows, name=name) for name in sources}


def fitting(candidates: Iterable[Candidate], params: EvaluationParams) -> Iterator[Candidate]:
    return (
        candidate for candidate in candidates if candidate.num_characters(candidate.choice) <= params.max_characters
    )


def next_replies(records: Iterable[Record], params: EvaluationParams, seed: int) -> Iterator[Candidate]:
    """One assistant reply of each dialogue, with all turns before it as the query."""
    for record in records:
        if not isinstance(record, Conversation) or not is_dialogue(record):
            continue
        replies = [
            candidate
            for place in range(1, len(record.turns), 2)
            if len(record.turns[place][1]) >= params.min_choice_characters
            for candidate in fitting(
                [Candidate(to_messages(record, place), record.turns[place][1], record.id)], params
            )
        ]
        if replies:
            yield replies[hash_integer(seed, "reply", record.id) % len(replies)]


def answers(records: Iterable[Record], kind: str, max_answer: int, seed: int) -> Iterator[Candidate]:
    """One kind of encyclopedia question about each article, phrased as in SFT."""
    for record in records:
        if isinstance(record, Article) and (asked := ask(record, kind, seed, max_answer)) is not None:
            yield Candidate(asked.messages()[:1], asked.answer, record.id)


def choices(candidates: list[Candidate], params: EvaluationParams, seed: int) -> Iterator[Row]:
    """Items whose distractors are true continuations of other candidates; each position is gold equally often."""
    pool = sorted({candidate.choice for candidate in candidates}, key=lambda choice: (len(choice), choice))
    num_distractors = params.num_choices - 1
    num_items = 0
    for candidate in candidates:
        others = [choice for choice in pool if choice != candidate.choice]
        nearest = nsmallest(
            NEAR * num_distractors,
            others,
            key=lambda choice: abs(len(choice) - len(candidate.choice)),
        )
        drawn = sorted(nearest, key=partial(hash_integer, seed, f"distractor {candidate.group_id}"))[:num_distractors]
        if len(drawn) < num_distractors or max(map(candidate.num_characters, drawn)) > params.max_characters:
            continue
        gold = num_items % params.num_choices
        yield {
            "query": candidate.query,
            "choices": [*drawn[:gold], candidate.choice, *drawn[gold:]],
            "gold": gold,
            "group_id": candidate.group_id,
        }
        num_items += 1
