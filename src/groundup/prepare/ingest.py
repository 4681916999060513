"""Read, clean, sign and split one source."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from groundup.core.formats.records import Record, body, to_line
from groundup.core.text.words import Words, ngram_hashes
from groundup.prepare.clean.cleaning import Cleaner
from groundup.prepare.clean.signatures import Permutations, premix, signature, word_digest
from groundup.prepare.ledger import Ledger
from groundup.prepare.processes import Processes, chunks_of
from groundup.prepare.quarantine import QUARANTINE_FILE, Quarantine
from groundup.prepare.sources.reader import Reader
from groundup.prepare.sources.rows import BadRow
from groundup.prepare.splits import SPLITS, split_of
from groundup.runner.params.prepare import PrepareParams

logger = logging.getLogger(__name__)


def clean_source(
    reader: Reader[Any], permutations: Permutations, processes: Processes, target: Path
) -> dict[str, Any]:
    """Write cleaned <split>.jsonl, <split>.signatures and the quarantine; ValueError for an unusable source."""
    params, name = reader.params, reader.source.name
    drops, pii = Ledger(params.card_examples), Ledger(params.card_examples)
    quarantine = Quarantine(name, target / QUARANTINE_FILE, params.max_bad_row_fraction, params.quarantine_rows)
    size = {"rows": 0, "characters": 0}

    def good_records() -> Iterator[Record]:
        for row in reader.read():
            if isinstance(row, BadRow):
                quarantine.add(row)
                if quarantine.is_hopeless(size["rows"]):
                    break
            else:
                size["rows"] += 1
                size["characters"] += len(body(row))
                yield row

    with ExitStack() as stack:
        files = {
            file: stack.enter_context((target / file).open("wb"))
            for split in SPLITS
            for file in (f"{split}.jsonl", f"{split}.signatures")
        }
        clean = partial(clean_chunk, params, permutations)
        for chunk in processes.map(clean, chunks_of(good_records(), lambda record: len(body(record)))):
            for file, content in chunk.files.items():
                files[file].write(content)
            drops.merge(chunk.drops)
            pii.merge(chunk.pii)
    quarantine.check(size["rows"])
    num_bad = quarantine.counts.total()
    if not size["rows"] + num_bad:
        raise reader.error(
            f"{reader.place} has no rows: put data there, or remove the source from prepare.sources in params.yaml"
        )
    if num_bad:
        logger.warning("prepare: %d bad rows of %s dropped; the data card counts them", num_bad, name)
    logger.info("prepare: read %d rows of %s", size["rows"], name)
    return {"read": size, "bad_rows": quarantine.to_json(), "dropped": drops.to_json(), "placeholders": pii.to_json()}


@dataclass(frozen=True)
class CleanedChunk:
    files: dict[str, bytes]  # content to write, by file name
    drops: Ledger
    pii: Ledger


def clean_chunk(params: PrepareParams, permutations: Permutations, raw: Sequence[Record]) -> CleanedChunk:
    drops, pii = Ledger(params.card_examples), Ledger(params.card_examples)
    cleaner = Cleaner(params.clean, pii)
    records = list(map(cleaner.clean, raw))
    words = Words(list(map(body, records)))
    shingle_words = params.dedup.shingle_words
    shingles = words.cut(premix(ngram_hashes(words.hashes, shingle_words)), shingle_words)
    of_records = zip(records, words.by_text(), words.ngrams(params.clean.repeated_ngram_words), shingles, strict=True)
    files: defaultdict[str, list[bytes]] = defaultdict(list)
    for record, own_words, ngrams, premixed in of_records:
        reason = cleaner.reason_to_drop(record, ngrams)
        if reason is not None:
            drops.add(record.source, reason, body(record))
            continue
        split = split_of(record, params.splits, params.seed)
        files[f"{split}.jsonl"].append(to_line(record))
        files[f"{split}.signatures"].append(word_digest(own_words, body(record)))
        files[f"{split}.signatures"].append(signature(premixed, permutations).tobytes())
    return CleanedChunk({name: b"".join(parts) for name, parts in files.items()}, drops, pii)
