"""Raw sources to everything the later stages learn from and are judged on.

    read + clean + split -> deduplicate -> decontaminate -> write

Each step reads files and writes files in `work`, so a crash costs at most the step it hit.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from groundup.data.card import build_card, write_card
from groundup.data.chats import chats as chat_rows
from groundup.data.cleaning import Cleaner
from groundup.data.decontaminate import decontaminate
from groundup.data.dedup import deduplicate, index_bytes_per_document
from groundup.data.evaluation_sets import evaluation_sets
from groundup.data.jsonl import Row, write_jsonl
from groundup.data.ledger import Ledger, merge_ledgers
from groundup.data.preferences import pairing_bytes_per_conversation
from groundup.data.preferences import preferences as preference_rows
from groundup.data.prompts import prompts as prompt_rows
from groundup.data.records import Conversation, Record, body, read_records, to_messages, to_row
from groundup.data.sources import check_sources, describe_source, read_source
from groundup.data.splits import DATA_SPLITS, SPLITS, split_of
from groundup.data.texts import texts
from groundup.frame.params.prepare import PrepareParams

logger = logging.getLogger(__name__)

StepResult = dict[str, Any]


def prepare(
    params: PrepareParams,
    data_dir: Path,
    text: Path,
    chats: Path,
    preferences: Path,
    prompts: Path,
    evaluation: Path,
    monitor: Path,
    judge: Path,
    report: Path,
    work: Path,
) -> dict[str, int]:
    """Write all data of the pipeline; the counts that the data card explains."""
    check_sources(params.sources, data_dir)
    cleaned = run_step(work, "cleaned", lambda target: clean_sources(params, data_dir, target))
    unique = run_step(work, "unique", lambda target: unique_records(params, work / "cleaned", target))
    train = run_step(work, "train", lambda target: clean_train(params, work / "unique", target))
    records = {split: work / "unique" / f"{split}.jsonl" for split in SPLITS}
    records["train"] = work / "train" / "train.jsonl"

    tasks = evaluation_sets(params.evaluation, params.chats.max_answer_characters, params.seed)
    outputs: dict[str, dict[str, dict[str, int]]] = {}
    for name, folder, rows in (
        ("text", text, lambda path: texts(read_records(path), params.clean.max_characters)),
        ("chats", chats, lambda path: chat_rows(read_records(path), params.chats, params.seed)),
        ("preferences", preferences, lambda path: preference_rows(path, params.preferences, params.seed)),
        ("prompts", prompts, lambda path: prompt_rows(read_records(path), params.prompts)),
    ):
        outputs[name] = {split: write_output(folder / f"{split}.jsonl", rows(records[split])) for split in DATA_SPLITS}
    outputs["evaluation"] = {
        task: write_output(evaluation / f"{task}.jsonl", rows(read_records(records["test"])))
        for task, rows in tasks.items()
    }
    for name, folder in (("monitor", monitor), ("judge", judge)):
        rated = rated_conversations(read_records(records[name]))
        outputs[name] = {name: write_output(folder / "conversations.jsonl", rated)}

    drops = merge_ledgers(params.card_examples, (step["dropped"] for step in (cleaned, unique, train)))
    pii = merge_ledgers(params.card_examples, [cleaned["placeholders"]])
    kept = count_by_source(record for path in records.values() for record in read_records(path))
    sources = [
        describe_source(source, data_dir) | cleaned["read"][source.name] | kept.get(source.name, NOTHING_KEPT)
        for source in params.sources
    ]
    index_bytes, pairing_bytes = (
        index_bytes_per_document(params.dedup),
        pairing_bytes_per_conversation(params.preferences),
    )
    write_card(report, build_card(sources, drops, pii, outputs, index_bytes, pairing_bytes))
    warn_if_empty(outputs)
    return metrics(cleaned, drops, pii, outputs)


NOTHING_KEPT = {"documents_kept": 0, "characters_kept": 0}


def run_step(work: Path, name: str, write: Callable[[Path], StepResult]) -> StepResult:
    """`write` fills work/<name> and returns what to remember; a step that once finished is not run again.

    The folder gets its name last: where it stands, it is whole.
    """
    target, partial = work / name, work / f"{name}.partial"
    if not target.exists():
        logger.info("prepare: %s", name)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        result = write(partial)
        (partial / "result.json").write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
        os.replace(partial, target)
    found: StepResult = json.loads((target / "result.json").read_text(encoding="utf-8"))
    return found


def clean_sources(params: PrepareParams, data_dir: Path, target: Path) -> StepResult:
    """<split>.jsonl of cleaned records."""
    drops, pii = Ledger(params.card_examples), Ledger(params.card_examples)
    cleaner = Cleaner(params.clean, lambda source, kind, count, text: pii.add(source, kind, text, count))
    read: dict[str, dict[str, int]] = {}
    with ExitStack() as stack:
        files = {
            split: stack.enter_context((target / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n"))
            for split in SPLITS
        }
        for source in params.sources:
            size = read[source.name] = {"rows": 0, "characters": 0}
            for raw in read_source(source, data_dir, target.parent / "hub", params.seed, params.clean.max_characters):
                size["rows"] += 1
                size["characters"] += len(body(raw))
                record = cleaner.clean(raw)
                reason = cleaner.reason_to_drop(record)
                if reason is None:
                    line = json.dumps(to_row(record), ensure_ascii=False)
                    files[split_of(record, params.splits, params.seed)].write(line + "\n")
                else:
                    drops.add(source.name, reason, body(record))
            logger.info("prepare: read %d rows of %s", size["rows"], source.name)
    return {"read": read, "dropped": drops.to_json(), "placeholders": pii.to_json()}


def unique_records(params: PrepareParams, sources: Path, target: Path) -> StepResult:
    drops = Ledger(params.card_examples)
    deduplicate(sources, target, params.dedup, params.seed, drops)
    return {"dropped": drops.to_json()}


def clean_train(params: PrepareParams, sources: Path, target: Path) -> StepResult:
    drops = Ledger(params.card_examples)
    decontaminate(sources, target, params.decontaminate_ngram, drops)
    return {"dropped": drops.to_json()}


def rated_conversations(records: Iterable[Record]) -> Iterator[Row]:
    """{id, source, rating, ratings, messages}: whole conversations, what their judge learns from."""
    for record in records:
        assert isinstance(record, Conversation)  # split_of sees to it
        assert record.ratings is not None
        yield {
            "id": record.id,
            "source": record.source,
            "rating": round(sum(record.ratings.values()) / len(record.ratings), 6),
            "ratings": record.ratings,
            "messages": to_messages(record, len(record.turns)),
        }


def write_output(path: Path, rows: Iterable[Row]) -> dict[str, int]:
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


def count_by_source(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    kept: dict[str, dict[str, int]] = {}
    for record in records:
        size = kept.setdefault(record.source, dict(NOTHING_KEPT))
        size["documents_kept"] += 1
        size["characters_kept"] += len(body(record))
    return kept


def warn_if_empty(outputs: dict[str, dict[str, dict[str, int]]]) -> None:
    """Own data need not feed every stage, but an empty file is worth a word."""
    empty = [
        f"{name}/{split}" for name, splits in outputs.items() for split, size in splits.items() if not size["rows"]
    ]
    if empty:
        logger.warning("prepare: no rows for %s; the stages that need them will say so", ", ".join(empty))


def metrics(
    cleaned: StepResult, drops: Ledger, pii: Ledger, outputs: dict[str, dict[str, dict[str, int]]]
) -> dict[str, int]:
    """Flat names for metrics/prepare.json."""
    nouns = {
        "text": "documents",
        "chats": "chats",
        "preferences": "preference_pairs",
        "prompts": "prompts",
        "evaluation": "items",
        "monitor": "conversations",
        "judge": "conversations",
    }
    found = {"num_rows_read": sum(size["rows"] for size in cleaned["read"].values())}
    for name, splits in outputs.items():
        found |= {f"num_{nouns[name]}_{split}": size["rows"] for split, size in splits.items()}
    found |= {f"num_characters_{split}": size["characters"] for split, size in outputs["text"].items()}
    reasons = sorted({reason for counts in drops.counts.values() for reason in counts})
    found |= {f"dropped_{reason}": drops.total(reason) for reason in reasons}
    kinds = sorted({kind for counts in pii.counts.values() for kind in counts})
    return found | {f"replaced_{kind}": pii.total(kind) for kind in kinds}
