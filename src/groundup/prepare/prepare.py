"""Raw sources to everything the later stages learn from and are judged on.

    read + clean + sign + split each source -> deduplicate -> decontaminate -> write each output

Each step reads files and writes files in `work`, so a crash costs at most the step it hit.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from groundup.core.formats.records import Record, body, read_records
from groundup.prepare.card import build_card, write_card
from groundup.prepare.clean.decontaminate import decontaminate
from groundup.prepare.clean.dedup import deduplicate, draw_permutations, index_bytes_per_document
from groundup.prepare.ingest import clean_source
from groundup.prepare.ledger import Ledger, merge_ledgers
from groundup.prepare.outputs.outputs import ORDER, Sizes, write_output
from groundup.prepare.outputs.preferences import pairing_bytes_per_conversation
from groundup.prepare.outputs.relevance import relevance_bytes_per_conversation
from groundup.prepare.processes import Processes
from groundup.prepare.quarantine import QUARANTINE_FILE
from groundup.prepare.sources.sources import check_sources, describe_source
from groundup.prepare.splits import SPLITS
from groundup.runner.params.prepare import PrepareParams
from groundup.runner.steps import FinishedSteps

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
    num_processes: int,
) -> dict[str, int]:
    """Write all data of the pipeline; the counts that the data card explains. `num_processes` changes no byte."""
    check_sources(params.sources, data_dir)
    steps = FinishedSteps(work / "steps")
    with Processes(num_processes) as processes:
        cleaned = clean_sources(params, data_dir, work / "hub", steps, processes)
        folders = [steps.folder(f"cleaned-{source.name}") for source in params.sources]
        unique = steps.fill("unique", partial(keep_unique, params, folders))
        train = steps.fill("decontaminated", partial(clean_train, params, steps.folder("unique"), processes))
        records = {split: steps.folder("unique") / f"{split}.jsonl" for split in SPLITS}
        records["train"] = steps.folder("decontaminated") / "train.jsonl"
        write = partial(write_output, params, records, steps)
        sizes = processes.map(
            write, ORDER, start_workers=False
        )  # of a small corpus they take less than a worker's start
        written = dict(zip(ORDER, sizes, strict=True))
    targets = {
        "text": text,
        "chats": chats,
        "preferences": preferences,
        "prompts": prompts,
        "evaluation": evaluation,
        "monitor": monitor,
        "judge": judge,
    }
    outputs = {name: written[name] for name in targets}
    for name, target in targets.items():
        steps.copy(f"output-{name}", target)

    bad_rows = {name: step["bad_rows"] for name, step in cleaned.items()}
    drops = merge_ledgers(params.card_examples, (step["dropped"] for step in (*cleaned.values(), unique, train)))
    pii = merge_ledgers(params.card_examples, (step["placeholders"] for step in cleaned.values()))
    kept = count_by_source(record for path in records.values() for record in read_records(path))
    sources = [
        describe_source(source, data_dir) | cleaned[source.name]["read"] | kept.get(source.name, NOTHING_KEPT)
        for source in params.sources
    ]
    index_bytes = index_bytes_per_document(params.dedup)
    pairing_bytes = {
        "rated": pairing_bytes_per_conversation(params.preferences),
        "relevance": relevance_bytes_per_conversation(params.preferences.relevance),
    }
    write_quarantine(steps, params, report / QUARANTINE_FILE)
    write_card(report, build_card(sources, bad_rows, drops, pii, outputs, index_bytes, pairing_bytes))
    check_outputs(outputs, sources, drops)
    return metrics(cleaned, bad_rows, drops, pii, outputs)


NOTHING_KEPT = {"documents_kept": 0, "characters_kept": 0}


def clean_sources(
    params: PrepareParams, data_dir: Path, cache_dir: Path, steps: FinishedSteps, processes: Processes
) -> dict[str, StepResult]:
    """What happened to each source."""
    permutations = draw_permutations(params.dedup, params.seed)
    return {
        source.name: steps.fill(
            f"cleaned-{source.name}",
            partial(clean_source, params, source, data_dir, cache_dir, permutations, processes),
        )
        for source in params.sources
    }


def keep_unique(params: PrepareParams, sources: Sequence[Path], target: Path) -> StepResult:
    drops = Ledger(params.card_examples)
    deduplicate(sources, target, params.dedup, params.seed, drops)
    return {"dropped": drops.to_json()}


def clean_train(params: PrepareParams, sources: Path, processes: Processes, target: Path) -> StepResult:
    drops = Ledger(params.card_examples)
    decontaminate(sources, target, params.decontaminate_ngram, drops, processes)
    return {"dropped": drops.to_json()}


def count_by_source(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    kept: dict[str, dict[str, int]] = {}
    for record in records:
        size = kept.setdefault(record.source, dict(NOTHING_KEPT))
        size["documents_kept"] += 1
        size["characters_kept"] += len(body(record))
    return kept


def write_quarantine(steps: FinishedSteps, params: PrepareParams, path: Path) -> None:
    """The samples of all sources in one file, empty where no row was bad."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for source in params.sources:
            with (steps.folder(f"cleaned-{source.name}") / QUARANTINE_FILE).open("rb") as samples:
                shutil.copyfileobj(samples, file)


def check_outputs(outputs: Mapping[str, Sizes], sources: Iterable[StepResult], drops: Ledger) -> None:
    """Own data need not feed every stage, but text there must be; an empty file or source is worth a word."""
    for source in sources:
        if not source["documents_kept"]:
            reasons = drops.counts.get(source["name"], {})
            logger.warning(
                "prepare: of %d rows of %s none is kept (%s)", source["rows"], source["name"], in_words(reasons)
            )
    if not outputs["text"]["train"]["rows"]:
        totals = sum((Counter(counts) for counts in drops.counts.values()), Counter())
        raise ValueError(
            f"prepare: no document is left to train on (dropped: {in_words(totals)}; "
            f"val {outputs['text']['val']['rows']}, test {outputs['text']['test']['rows']}): add text to "
            "prepare.sources, or loosen prepare.clean or prepare.splits in params.yaml"
        )
    empty = [
        f"{name}/{split}" for name, splits in outputs.items() for split, size in splits.items() if not size["rows"]
    ]
    if empty:
        logger.warning("prepare: no rows for %s; the stages that need them will say so", ", ".join(empty))


def in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "nothing"


def metrics(
    cleaned: Mapping[str, StepResult],
    bad_rows: Mapping[str, Mapping[str, int]],
    drops: Ledger,
    pii: Ledger,
    outputs: Mapping[str, Sizes],
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
    found = {"num_rows_read": sum(step["read"]["rows"] for step in cleaned.values())}
    bad = sum((Counter(counts) for counts in bad_rows.values()), Counter())
    found |= {"num_bad_rows": bad.total(), **{f"bad_rows_{reason}": bad[reason] for reason in sorted(bad)}}
    for name, splits in outputs.items():
        found |= {f"num_{nouns[name]}_{split}": size["rows"] for split, size in splits.items()}
    found |= {f"num_characters_{split}": size["characters"] for split, size in outputs["text"].items()}
    reasons = sorted({reason for counts in drops.counts.values() for reason in counts})
    found |= {f"dropped_{reason}": drops.total(reason) for reason in reasons}
    kinds = sorted({kind for counts in pii.counts.values() for kind in counts})
    return found | {f"replaced_{kind}": pii.total(kind) for kind in kinds}
