"""Exact and near duplicates by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., chapter 3)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH

from groundup.data.ledger import Ledger
from groundup.data.records import Record, body, read_records, write_records
from groundup.data.splits import SPLITS
from groundup.data.words import ngram_hashes, word_hashes
from groundup.frame.params.prepare import DedupParams

Signature = np.ndarray  # [num_permutations], unsigned, as datasketch has it
DIGEST_BYTES = 16
LOW_32_BITS = np.uint64(0xFFFFFFFF)

# Measured with tracemalloc on CPython 3.11, 64 bits, within 1 % for 64 to 256 permutations (tests/data/test_dedup.py).
BYTES_PER_DOCUMENT = 290  # digest, number, array header
BYTES_PER_BAND = 312  # dict entry, set and bytes key of the index
BYTES_PER_PERMUTATION = 8  # 4 in the signature, 4 in the keys of the bands


def write_signatures(paths: Iterable[Path], params: DedupParams, seed: int, target: Path) -> None:
    """What the index compares of every record in `paths`: the expensive part of deduplication."""
    empty = empty_sketch(params, seed)
    with target.open("wb") as file:
        for record in chain.from_iterable(map(read_records, paths)):
            digest, signature = sign(body(record), params, empty)
            file.write(digest + signature.tobytes())


def read_signatures(path: Path, params: DedupParams, seed: int) -> Iterator[tuple[bytes, Signature]]:
    dtype = empty_sketch(params, seed).hashvalues.dtype
    with path.open("rb") as file:
        while digest := file.read(DIGEST_BYTES):
            yield digest, np.frombuffer(file.read(params.num_permutations * dtype.itemsize), dtype=dtype).copy()


def deduplicate(
    paths: Mapping[str, Sequence[Path]],
    signatures: Mapping[str, Path],
    target: Path,
    params: DedupParams,
    seed: int,
    ledger: Ledger,
) -> None:
    """<split>.jsonl in `target` of the records of each split, held-out splits first: train yields to them."""
    index = DuplicateIndex(params, seed)
    for split in SPLITS:
        records = chain.from_iterable(map(read_records, paths[split]))
        signed = zip(records, read_signatures(signatures[split], params, seed), strict=True)
        write_records(target / f"{split}.jsonl", keep_new(signed, index, ledger))


def keep_new(
    signed: Iterable[tuple[Record, tuple[bytes, Signature]]], index: "DuplicateIndex", ledger: Ledger
) -> Iterator[Record]:
    for record, (digest, signature) in signed:
        reason = index.add(digest, signature)
        if reason is None:
            yield record
        else:
            ledger.add(record.source, reason, body(record))


def empty_sketch(params: DedupParams, seed: int) -> MinHash:
    """To be copied: its permutations are shared, and drawing them anew would cost more than a document."""
    return MinHash(num_perm=params.num_permutations, seed=seed, hashfunc=int)


def sign(text: str, params: DedupParams, empty: MinHash) -> tuple[bytes, Signature]:
    """Digest of the words and MinHash of the shingles [num_permutations], the empty one where there are none."""
    words = word_hashes(text)
    # Texts without a word (emoji, say) are compared as they are.
    digest = blake2b(words.tobytes() or text.encode(), digest_size=DIGEST_BYTES).digest()
    shingles = ngram_hashes(words, params.shingle_words)
    if not len(shingles):
        return digest, empty.hashvalues
    sketch = empty.copy()
    sketch.update_batch(np.unique(shingles & LOW_32_BITS).tolist())
    return digest, sketch.hashvalues


class DuplicateIndex:
    """Remembers every text it has let through; besides pairing the only part of prepare that grows with the corpus."""

    def __init__(self, params: DedupParams, seed: int) -> None:
        self.threshold = params.threshold
        self.lsh = MinHashLSH(threshold=params.threshold, num_perm=params.num_permutations)
        self.empty = empty_sketch(params, seed)
        self.signatures: dict[int, Signature] = {}
        self.digests: set[bytes] = set()

    def add(self, digest: bytes, signature: Signature) -> str | None:
        """None and remembered, or the reason why it is a duplicate."""
        if digest in self.digests:
            return "exact_duplicate"
        if not np.array_equal(signature, self.empty.hashvalues):
            sketch = self.empty.copy()
            sketch.hashvalues = signature
            for other in self.lsh.query(sketch):
                # The index proposes, the signatures decide.
                if np.mean(self.signatures[other] == signature) >= self.threshold:
                    return "near_duplicate"
            number = len(self.signatures)
            self.lsh.insert(number, sketch, check_duplication=False)
            self.signatures[number] = signature
        self.digests.add(digest)
        return None


def index_bytes_per_document(params: DedupParams) -> int:
    """Memory that the index takes for each document it keeps."""
    num_bands = MinHashLSH(threshold=params.threshold, num_perm=params.num_permutations).b
    return BYTES_PER_DOCUMENT + BYTES_PER_BAND * num_bands + BYTES_PER_PERMUTATION * params.num_permutations
