"""What prepare writes for the later stages."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from groundup.core.formats.jsonl import Row, write_jsonl
from groundup.core.formats.records import Conversation, Record, mean_rating, read_records, to_messages
from groundup.core.text.canaries import FILE, make_canaries, plant, write_canary_file
from groundup.prepare.outputs.chats import chats
from groundup.prepare.outputs.evaluation import evaluation_sets
from groundup.prepare.outputs.preferences import preferences
from groundup.prepare.outputs.prompts import prompts
from groundup.prepare.outputs.relevance import relevance_pairs
from groundup.prepare.outputs.text import texts
from groundup.prepare.splits import DATA_SPLITS
from groundup.runner.params.prepare import PrepareParams
from groundup.runner.steps import FinishedSteps

Sizes = dict[str, dict[str, int]]  # rows and characters of each file, by its stem


# The order in which processes take them: a worker the longest, with a short one queued behind it, this one the next.
ORDER = ("preferences", "monitor", "text", "chats", "evaluation", "prompts", "judge")


def write_output(params: PrepareParams, records: Mapping[str, Path], steps: FinishedSteps, name: str) -> Sizes:
    """The step output-<name>, by whichever process."""
    return steps.fill(f"output-{name}", output_writers(params, records)[name])


def output_writers(params: PrepareParams, records: Mapping[str, Path]) -> dict[str, Callable[[Path], Sizes]]:
    """By the name of the output, the function that fills its folder from the records of each split."""

    def of_splits(rows: Callable[[Path], Iterable[Row]], target: Path) -> Sizes:
        return {split: write_rows(target / f"{split}.jsonl", rows(records[split])) for split in DATA_SPLITS}

    canaries = [] if params.canaries is None else make_canaries(params.canaries, params.seed)

    def documents(path: Path) -> Iterator[Row]:
        rows = partial(texts, max_characters=params.clean.max_characters)
        if not canaries or path != records["train"]:
            return rows(read_records(path))
        num_rows = sum(1 for _ in rows(read_records(path)))
        return plant(rows(read_records(path)), num_rows, canaries, params.seed)

    def all_pairs(path: Path) -> Iterator[Row]:
        yield from preferences(path, params.preferences, params.seed)
        yield from relevance_pairs(path, params.preferences.relevance, params.seed)

    def of_tasks(target: Path) -> Sizes:
        if canaries:
            write_canary_file(target / FILE, canaries)
        tasks = evaluation_sets(params.evaluation, params.chats.max_answer_characters, params.seed)
        return {
            name: write_rows(target / f"{name}.jsonl", rows(read_records(records["test"])))
            for name, rows in tasks.items()
        }

    def of_judge(name: str, target: Path) -> Sizes:
        return {name: write_rows(target / "conversations.jsonl", whole_conversations(read_records(records[name])))}

    return {
        "text": partial(of_splits, documents),
        "chats": partial(of_splits, lambda path: chats(read_records(path), params.chats, params.seed)),
        "preferences": partial(of_splits, all_pairs),
        "prompts": partial(of_splits, lambda path: prompts(read_records(path), params.prompts)),
        "evaluation": of_tasks,
        "monitor": partial(of_judge, "monitor"),
        "judge": partial(of_judge, "judge"),
    }


def whole_conversations(records: Iterable[Record]) -> Iterator[Row]:
    """{id, source, rating, ratings, messages}: what a judge learns from; nobody need have rated it."""
    for record in records:
        assert isinstance(record, Conversation)  # split_of sees to it
        rating = mean_rating(record)
        yield {
            "id": record.id,
            "source": record.source,
            "rating": None if rating is None else round(rating, 6),
            "ratings": record.ratings,
            "messages": to_messages(record, len(record.turns)),
        }


def write_rows(path: Path, rows: Iterable[Row]) -> dict[str, int]:
    size = {"rows": 0, "characters": 0}

    def counted() -> Iterator[Row]:
        for row in rows:
            size["rows"] += 1
            size["characters"] += num_characters(row)
            yield row

    write_jsonl(path, counted())
    return size


def num_characters(row: Row) -> int:
    """Of what a model reads: texts, messages, choices."""
    messages = [m for key in ("messages", "query", "chosen", "rejected") for m in row.get(key, [])]
    return len(row.get("text", "")) + sum(len(m["content"]) for m in messages) + sum(map(len, row.get("choices", [])))
