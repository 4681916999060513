"""Training records that share a word n-gram with what evaluate uses are dropped (Brown et al. 2020, appendix C)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from groundup.data.ledger import Ledger
from groundup.data.records import Conversation, Record, body, read_records, write_records
from groundup.data.words import WORD, Hashes, ngram_hashes, word_hashes

# The evaluation sets, test documents, prompts and pairs are all written from test; judge and monitor from their own.
EVALUATED_SPLITS = ("test", "judge", "monitor")


def decontaminate(sources: Path, target: Path, n: int, ledger: Ledger) -> None:
    """train.jsonl in `sources` to train.jsonl in `target`, without what overlaps the evaluated splits in `sources`.

    The n-grams lie sorted in a file that is mapped, not loaded: memory does not grow with them.
    """
    path = target / "evaluated_ngrams.u64"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for split in EVALUATED_SPLITS:
            for record in read_records(sources / f"{split}.jsonl"):
                file.write(evaluated_ngrams(record, n).tobytes())
    train = read_records(sources / "train.jsonl")
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        write_records(target / "train.jsonl", train)
        return
    ngrams = np.memmap(path, dtype=np.uint64, mode="r+")
    ngrams.sort()
    write_records(target / "train.jsonl", keep_clean(train, ngrams, n, ledger))


def evaluated_ngrams(record: Record, n: int) -> Hashes:
    """Of what is the record's own: speakers quote their opening line, which is in every split by design."""
    ngrams = ngram_hashes(word_hashes(body(record)), n)
    if isinstance(record, Conversation) and record.opening is not None:
        ngrams = ngrams[~np.isin(ngrams, ngram_hashes(word_hashes(record.opening), n))]
    return ngrams


def keep_clean(records: Iterable[Record], ngrams: Hashes, n: int, ledger: Ledger) -> Iterator[Record]:
    for record in records:
        overlap = contains(ngrams, ngram_hashes(word_hashes(body(record)), n))
        if overlap.any():
            ledger.add(record.source, "contaminated", overlapping_words(record, overlap, n))
        else:
            yield record


def contains(sorted_hashes: Hashes, queries: Hashes) -> np.ndarray:
    """[num_queries] bool."""
    places = np.searchsorted(sorted_hashes, queries)
    return np.asarray(sorted_hashes[np.minimum(places, len(sorted_hashes) - 1)] == queries)


def overlapping_words(record: Record, overlap: np.ndarray, n: int) -> str:
    """The first n words that are also in an evaluated record, for the data card."""
    start = int(overlap.argmax())
    return " ".join(WORD.findall(body(record).lower())[start : start + n])
