"""One source, read, cleaned and split."""

import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from groundup.data.cleaning import Cleaner
from groundup.data.ledger import Ledger
from groundup.data.quarantine import QUARANTINE_FILE, Quarantine
from groundup.data.records import body, to_row
from groundup.data.rows import BadRow
from groundup.data.sources import place, read_source
from groundup.data.splits import SPLITS, split_of
from groundup.frame.params.prepare import PrepareParams, Source

logger = logging.getLogger(__name__)


def clean_source(
    params: PrepareParams, source: Source, data_dir: Path, cache_dir: Path, target: Path
) -> dict[str, Any]:
    """<split>.jsonl of cleaned records, and the quarantine; ValueError where a source is no use."""
    drops, pii = Ledger(params.card_examples), Ledger(params.card_examples)
    cleaner = Cleaner(params.clean, lambda name, kind, count, text: pii.add(name, kind, text, count))
    quarantine = Quarantine(source.name, target / QUARANTINE_FILE, params.max_bad_row_fraction, params.quarantine_rows)
    size = {"rows": 0, "characters": 0}
    with ExitStack() as stack:
        files = {
            split: stack.enter_context((target / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n"))
            for split in SPLITS
        }
        for raw in read_source(source, data_dir, cache_dir, params):
            if isinstance(raw, BadRow):
                quarantine.add(raw)
                if quarantine.is_hopeless(size["rows"]):
                    break
                continue
            size["rows"] += 1
            size["characters"] += len(body(raw))
            record = cleaner.clean(raw)
            reason = cleaner.reason_to_drop(record)
            if reason is None:
                line = json.dumps(to_row(record), ensure_ascii=False)
                files[split_of(record, params.splits, params.seed)].write(line + "\n")
            else:
                drops.add(source.name, reason, body(record))
    quarantine.check(size["rows"])
    num_bad = quarantine.counts.total()
    if not size["rows"] + num_bad:
        raise ValueError(
            f"source {source.name}: there is no row in {place(source)}: put data there, or take the source out of "
            "prepare.sources in params.yaml"
        )
    if num_bad:
        logger.warning("prepare: %d bad rows of %s left out; the data card names them", num_bad, source.name)
    logger.info("prepare: read %d rows of %s", size["rows"], source.name)
    return {"read": size, "bad_rows": quarantine.to_json(), "dropped": drops.to_json(), "placeholders": pii.to_json()}
