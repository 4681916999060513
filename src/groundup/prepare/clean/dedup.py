"""Exact and near duplicates by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., chapter 3)."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH

from groundup.core.formats.records import body, from_line, read_lines
from groundup.prepare.clean.signatures import DIGEST_BYTES, NOTHING, Permutations, Signature
from groundup.prepare.ledger import Ledger
from groundup.prepare.splits import SPLITS
from groundup.runner.params.prepare import DedupParams

# Measured with tracemalloc on CPython 3.11, 64 bits, within 1 % for 64 to 256 permutations: test_dedup.py.
BYTES_PER_DOCUMENT = 290  # digest, number, array header
BYTES_PER_BAND = 312  # dict entry, set and bytes key of the index
BYTES_PER_PERMUTATION = 8  # 4 in the signature, 4 in the keys of the bands


def draw_permutations(params: DedupParams, seed: int) -> Permutations:
    return empty_sketch(params, seed).permutations


def empty_sketch(params: DedupParams, seed: int) -> MinHash:
    return MinHash(num_perm=params.num_permutations, seed=seed, hashfunc=int)


def read_signatures(path: Path, params: DedupParams) -> Iterator[tuple[bytes, Signature]]:
    """word_digest and signature of each record."""
    num_bytes = params.num_permutations * NOTHING.itemsize
    with path.open("rb") as file:
        while digest := file.read(DIGEST_BYTES):
            yield digest, np.frombuffer(file.read(num_bytes), dtype=NOTHING.dtype).copy()


def deduplicate(sources: Sequence[Path], target: Path, params: DedupParams, seed: int, ledger: Ledger) -> None:
    """Write the new records of <split>.jsonl in `sources`, with signatures beside it, to <split>.jsonl in `target`.

    Held-out splits come first, so that a duplicate is dropped from train.
    """
    index = DuplicateIndex(params, seed)
    target.mkdir(parents=True, exist_ok=True)
    gc.disable()  # the index has no cycles, but the collector would scan all of it repeatedly
    try:
        for split in SPLITS:
            with (target / f"{split}.jsonl").open("wb") as file:
                for folder in sources:
                    signed = read_signatures(folder / f"{split}.signatures", params)
                    file.writelines(keep_new(read_lines(folder / f"{split}.jsonl"), signed, index, ledger))
    finally:
        gc.enable()


def keep_new(
    lines: Iterable[bytes], signed: Iterable[tuple[bytes, Signature]], index: "DuplicateIndex", ledger: Ledger
) -> Iterator[bytes]:
    for line, (digest, signature) in zip(lines, signed, strict=True):
        reason = index.add(digest, signature)
        if reason is None:
            yield line
        else:
            record = from_line(line)
            ledger.add(record.source, reason, body(record))


class DuplicateIndex:
    """Remembers every text that it accepts; with pairing, the only part of prepare that grows with the corpus."""

    def __init__(self, params: DedupParams, seed: int) -> None:
        self.threshold = params.threshold
        self.lsh = MinHashLSH(threshold=params.threshold, num_perm=params.num_permutations)
        self.sketch = empty_sketch(params, seed)  # reused for each signature: creating one costs more than a query
        self.signatures: dict[int, Signature] = {}
        self.digests: set[bytes] = set()

    def add(self, digest: bytes, signature: Signature) -> str | None:
        """Remember a new record and return None, or return why it is a duplicate."""
        if digest in self.digests:
            return "exact_duplicate"
        if (signature != NOTHING).any():
            self.sketch.hashvalues = signature
            for other in self.lsh.query(self.sketch):
                # The index proposes candidates; the signatures decide.
                if np.mean(self.signatures[other] == signature) >= self.threshold:
                    return "near_duplicate"
            number = len(self.signatures)
            self.lsh.insert(number, self.sketch, check_duplication=False)
            self.signatures[number] = signature
        self.digests.add(digest)
        return None


def index_bytes_per_document(params: DedupParams) -> int:
    """Bytes of memory per document in the index."""
    num_bands = MinHashLSH(threshold=params.threshold, num_perm=params.num_permutations).b
    return BYTES_PER_DOCUMENT + BYTES_PER_BAND * num_bands + BYTES_PER_PERMUTATION * params.num_permutations
