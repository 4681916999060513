"""Turn raw sources into everything that the later stages learn from and are evaluated on.

    read + clean + sign + split each source -> deduplicate -> decontaminate -> write each output

Each step reads and writes files in `work`, so a crash loses at most the step in progress.
"""

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from groundup.core.formats.needs import warnings
from groundup.core.formats.records import body, read_records
from groundup.prepare.card import write_card
from groundup.prepare.clean.decontaminate import decontaminate
from groundup.prepare.clean.dedup import deduplicate, draw_permutations
from groundup.prepare.ingest import clean_source
from groundup.prepare.ledger import Counts, Ledger, merge_ledgers, totals
from groundup.prepare.outputs.outputs import OUTPUTS, write_output
from groundup.prepare.outputs.preferences import KINDS
from groundup.prepare.outputs.rows import Records, Sizes
from groundup.prepare.processes import Processes
from groundup.prepare.quarantine import QUARANTINE_FILE
from groundup.prepare.sources.copied import check_copied
from groundup.prepare.sources.sources import check_sources, open_sources
from groundup.prepare.splits import SPLITS, count_met
from groundup.runner.params.prepare import PrepareParams
from groundup.runner.steps import FinishedSteps

logger = logging.getLogger(__name__)

StepResult = dict[str, Any]


def prepare(
    params: PrepareParams, data_dir: Path, outs: Mapping[str, Path], report: Path, work: Path, num_processes: int
) -> dict[str, int]:
    """Fill the folder of each output; returns the counts of the data card. `num_processes` changes no byte."""
    check_copied(data_dir)
    sources = open_sources(params, data_dir, work / "hub")
    check_sources(sources)
    steps = FinishedSteps(work / "steps")
    folders = {reader.source.name: steps.folder(f"cleaned-{reader.source.name}") for reader in sources}
    permutations = draw_permutations(params.dedup, params.seed)
    with Processes(num_processes) as processes:
        cleaned = {
            reader.source.name: steps.fill(
                f"cleaned-{reader.source.name}", partial(clean_source, reader, permutations, processes)
            )
            for reader in sources
        }
        unique = steps.fill("unique", partial(keep_unique, params, list(folders.values())))
        train = steps.fill("decontaminated", partial(clean_train, params, steps.folder("unique"), processes))
        records = {split: steps.folder("unique") / f"{split}.jsonl" for split in SPLITS}
        records["train"] = steps.folder("decontaminated") / "train.jsonl"
        write = partial(write_output, params, records, steps)
        outputs = dict(zip(OUTPUTS, processes.map(write, OUTPUTS), strict=True))
    for name in OUTPUTS:
        steps.copy(f"output-{name}", outs[name])

    bad_rows = {name: step["bad_rows"] for name, step in cleaned.items()}
    drops = merge_ledgers(params.card_examples, (step["dropped"] for step in (*cleaned.values(), unique, train)))
    pii = merge_ledgers(params.card_examples, (step["placeholders"] for step in cleaned.values()))
    kept = count_kept(cleaned, records)
    described = [
        reader.describe() | cleaned[reader.source.name]["read"] | kept[reader.source.name] for reader in sources
    ]
    write_quarantine(folders.values(), report / QUARANTINE_FILE)
    write_card(report, params, described, bad_rows, drops, pii, outputs, count_met(records))
    check_outputs(outputs, described, drops.counts)
    for warning in warnings(outs):
        logger.warning("prepare: %s", warning)
    return metrics(cleaned, bad_rows, drops.counts, pii.counts, outputs)


def keep_unique(params: PrepareParams, sources: Sequence[Path], target: Path) -> StepResult:
    drops = Ledger(params.card_examples)
    deduplicate(sources, target, params.dedup, drops)
    return {"dropped": drops.to_json()}


def clean_train(params: PrepareParams, sources: Path, processes: Processes, target: Path) -> StepResult:
    drops = Ledger(params.card_examples)
    decontaminate(sources, target, params.decontaminate_ngram, drops, processes)
    return {"dropped": drops.to_json()}


def count_kept(sources: Iterable[str], records: Records) -> dict[str, dict[str, int]]:
    kept = {name: {"documents_kept": 0, "characters_kept": 0} for name in sources}
    for path in records.values():
        for record in read_records(path):
            kept[record.source]["documents_kept"] += 1
            kept[record.source]["characters_kept"] += len(body(record))
    return kept


def write_quarantine(sources: Iterable[Path], path: Path) -> None:
    """The quarantine samples of all sources in one file; empty if there was no bad row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for folder in sources:
            with (folder / QUARANTINE_FILE).open("rb") as samples:
                shutil.copyfileobj(samples, file)


def check_outputs(outputs: Mapping[str, Sizes], sources: Iterable[StepResult], drops: Counts) -> None:
    """Warn about empty sources and outputs; ValueError if there is no text to train on."""
    for source in sources:
        if not source["documents_kept"]:
            reasons = in_words(drops.get(source["name"], {}))
            logger.warning("prepare: none of the %d rows of %s was kept (%s)", source["rows"], source["name"], reasons)
    text = outputs["text"]
    if not text["train"]["rows"]:
        raise ValueError(
            f"prepare: no document remains for training (dropped: {in_words(totals(drops))}; "
            f"val {text['val']['rows']}, test {text['test']['rows']}): add text to prepare.sources, or loosen "
            "prepare.clean or prepare.splits in params.yaml"
        )
    empty = [f"{name}/{stem}" for name, sizes in outputs.items() for stem, size in sizes.items() if not size["rows"]]
    if empty:
        logger.warning("prepare: no rows for %s: the stages leave out what they can do without", ", ".join(empty))


def in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "nothing"


def metrics(
    cleaned: Mapping[str, StepResult], bad_rows: Counts, drops: Counts, pii: Counts, outputs: Mapping[str, Sizes]
) -> dict[str, int]:
    """Flat names for metrics/prepare.json."""
    found = {"num_rows_read": sum(step["read"]["rows"] for step in cleaned.values())}
    found["num_bad_rows"] = totals(bad_rows).total()
    for name, sizes in outputs.items():
        found |= {f"num_{OUTPUTS[name].noun}_{stem}": size["rows"] for stem, size in sizes.items()}
    found |= {f"num_characters_{split}": size["characters"] for split, size in outputs["text"].items()}
    pairs = outputs["preferences"]
    found |= {f"num_{kind}_pairs_{split}": size.get(kind, 0) for split, size in pairs.items() for kind in KINDS}
    for prefix, counts in (("bad_rows", bad_rows), ("dropped", drops), ("replaced", pii)):
        found |= {f"{prefix}_{reason}": count for reason, count in sorted(totals(counts).items())}
    return found
