"""Exact and near duplicates by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., chapter 3)."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH

from groundup.data.ledger import Ledger
from groundup.data.records import Record, body, read_records, write_records
from groundup.data.splits import SPLITS
from groundup.data.words import ngram_hashes, word_hashes
from groundup.frame.params.prepare import DedupParams

LOW_32_BITS = np.uint64(0xFFFFFFFF)

# Measured with tracemalloc on CPython 3.11, 64 bits, within 1 % for 64 to 256 permutations (tests/data/test_dedup.py).
BYTES_PER_DOCUMENT = 290  # digest, number, array header
BYTES_PER_BAND = 312  # dict entry, set and bytes key of the index
BYTES_PER_PERMUTATION = 8  # 4 in the signature, 4 in the keys of the bands


def deduplicate(sources: Path, target: Path, params: DedupParams, seed: int, ledger: Ledger) -> None:
    """<split>.jsonl in `sources` to <split>.jsonl in `target`, held-out splits first: train yields to them."""
    index = DuplicateIndex(params, seed)
    for split in SPLITS:
        write_records(target / f"{split}.jsonl", keep_new(read_records(sources / f"{split}.jsonl"), index, ledger))


def keep_new(records: Iterable[Record], index: "DuplicateIndex", ledger: Ledger) -> Iterator[Record]:
    for record in records:
        reason = index.add(record.id, body(record))
        if reason is None:
            yield record
        else:
            ledger.add(record.source, reason, body(record))


class DuplicateIndex:
    """Remembers every text it has let through; the only part of prepare that grows with the corpus."""

    def __init__(self, params: DedupParams, seed: int) -> None:
        self.params = params
        self.lsh = MinHashLSH(threshold=params.threshold, num_perm=params.num_permutations)
        # One empty sketch: its permutations are shared, and drawing them anew would cost more than a document.
        self.empty = MinHash(num_perm=params.num_permutations, seed=seed, hashfunc=int)
        self.signatures: dict[int, np.ndarray] = {}
        self.digests: set[bytes] = set()

    def add(self, name: str, text: str) -> str | None:
        """None and remembered, or the reason why it is a duplicate."""
        words = word_hashes(text)
        # Texts without a word (emoji, say) are compared as they are.
        digest = blake2b(words.tobytes() or text.encode(), digest_size=16).digest()
        if digest in self.digests:
            return "exact_duplicate"
        shingles = ngram_hashes(words, self.params.shingle_words)
        if len(shingles):
            sketch = self.empty.copy()
            sketch.update_batch(np.unique(shingles & LOW_32_BITS).tolist())
            for other in self.lsh.query(sketch):
                # The index proposes, the signatures decide.
                if np.mean(self.signatures[other] == sketch.hashvalues) >= self.params.threshold:
                    return "near_duplicate"
            number = len(self.signatures)
            self.lsh.insert(number, sketch, check_duplication=False)
            self.signatures[number] = sketch.hashvalues
        self.digests.add(digest)
        return None


def index_bytes_per_document(params: DedupParams) -> int:
    """Memory that the index takes for each document it keeps."""
    num_bands = MinHashLSH(threshold=params.threshold, num_perm=params.num_permutations).b
    return BYTES_PER_DOCUMENT + BYTES_PER_BAND * num_bands + BYTES_PER_PERMUTATION * params.num_permutations
