"""Drop training records that share a word n-gram with what evaluate uses (Brown et al. 2020, appendix C)."""

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

import numpy as np

from groundup.core.formats.records import Conversation, Record, body, from_line, read_lines
from groundup.core.text.words import WORD, Hashes, Words, ngram_hashes, word_hashes
from groundup.prepare.ledger import Ledger
from groundup.prepare.processes import Processes, chunks_of

# Evaluation sets, test documents, prompts and pairs come from test; judge and monitor have their own splits.
EVALUATED_SPLITS = ("test", "judge", "monitor")


def decontaminate(sources: Path, target: Path, n: int, ledger: Ledger, processes: Processes) -> None:
    """train.jsonl from `sources` to `target`, without records that overlap the evaluated splits in `sources`.

    The sorted n-grams are in a file that is mapped, not loaded, so memory does not grow with them.
    """
    path = target / "evaluated_ngrams.u64"
    path.parent.mkdir(parents=True, exist_ok=True)
    evaluated = chain.from_iterable(read_lines(sources / f"{split}.jsonl") for split in EVALUATED_SPLITS)
    with path.open("wb") as file:
        file.writelines(processes.map(partial(evaluated_ngrams, n), chunks_of(evaluated, len)))
    train = read_lines(sources / "train.jsonl")
    with (target / "train.jsonl").open("wb") as kept:
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            kept.writelines(train)
            return
        np.memmap(path, dtype=np.uint64, mode="r+").sort()
        for lines, found in processes.map(partial(clean_lines, path, n, ledger.num_examples), chunks_of(train, len)):
            kept.write(lines)
            ledger.merge(found)


def evaluated_ngrams(n: int, lines: Sequence[bytes]) -> bytes:
    """N-grams of each record, without those of its opening line: speakers quote it, and it is in every split."""
    records = list(map(from_line, lines))
    parts = []
    for record, ngrams in zip(records, Words(list(map(body, records))).ngrams(n), strict=True):
        if isinstance(record, Conversation) and record.opening is not None:
            parts.append(ngrams[~np.isin(ngrams, ngram_hashes(word_hashes(record.opening), n))])
        else:
            parts.append(ngrams)
    return np.concatenate(parts).tobytes()


def clean_lines(path: Path, n: int, num_examples: int, lines: Sequence[bytes]) -> tuple[bytes, Ledger]:
    """The lines whose records have none of the n-grams in `path`."""
    records = list(map(from_line, lines))
    words = Words(list(map(body, records)))
    evaluated = mapped(path, path.stat().st_mtime_ns)
    overlaps = words.cut(contains(evaluated, ngram_hashes(words.hashes, n)), n)
    kept, ledger = [], Ledger(num_examples)
    for line, record, overlap in zip(lines, records, overlaps, strict=True):
        if overlap.any():
            ledger.add(record.source, "contaminated", overlapping_words(record, overlap, n))
        else:
            kept.append(line)
    return b"".join(kept), ledger


@lru_cache(maxsize=1)
def mapped(path: Path, changed: int) -> Hashes:
    """One map per process: a new map for each chunk would fault in every page again."""
    return np.memmap(path, dtype=np.uint64, mode="r")


def contains(sorted_hashes: Hashes, queries: Hashes) -> np.ndarray:
    """[num_queries] bool. Sorted queries make the search several times faster."""
    order = np.argsort(queries)
    queries = queries[order]
    places = np.searchsorted(sorted_hashes, queries)
    found = np.empty(len(queries), dtype=bool)
    found[order] = sorted_hashes[np.minimum(places, len(sorted_hashes) - 1)] == queries
    return found


def overlapping_words(record: Record, overlap: np.ndarray, n: int) -> str:
    """The first n words that are also in an evaluated record, for the data card."""
    start = int(overlap.argmax())
    return " ".join(WORD.findall(body(record).lower())[start : start + n])
