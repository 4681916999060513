"""Exact and near duplicates by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., chapter 3).

Two records are duplicates if their words are the same, or if a band proposes them and their signatures confirm it; the
connected components of these pairs are the sets of duplicates. Of each set one record is kept: of the most held-out
split, and there the one with the lowest digest. The kept records of a split are written in the order of their digests.
So neither the choice nor the order depends on the order of reading, and shards by the first bits of the digest, one
after the other, give the same file whatever their number: it need not be a param.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from groundup.core.formats.records import body, from_line
from groundup.prepare.clean.signatures import NOTHING, Permutations
from groundup.prepare.ledger import Ledger
from groundup.prepare.splits import SPLITS
from groundup.runner.params.prepare import DedupParams

# Measured with tracemalloc on CPython 3.11, 64 bits: test_dedup.py. The signatures stay in their files.
INDEX_BYTES_PER_DOCUMENT = 85
BLOCK = 4096  # signatures in memory at a time
MIX = np.uint64(0x9E3779B97F4A7C15)

Numbers = NDArray[np.int64]  # of records, counted by split (most held-out first), source and row
Flags = NDArray[np.bool_]


def draw_permutations(params: DedupParams, seed: int) -> Permutations:
    return MinHash(num_perm=params.num_permutations, seed=seed, hashfunc=int).permutations


def deduplicate(sources: Sequence[Path], target: Path, params: DedupParams, ledger: Ledger) -> None:
    """The kept records of <split>.jsonl in `sources`, with signatures beside it, go to <split>.jsonl in `target`."""
    signed = Signed([folder / f"{split}.signatures" for split in SPLITS for folder in sources], params)
    order, is_first = signed.by_digest()
    sets = find_sets(signed, order, is_first, params)
    split_ends = signed.ends[len(sources) - 1 :: len(sources)]
    by_split = np.argsort(np.searchsorted(split_ends, order, side="right"), kind="stable")
    order, is_first = order[by_split], is_first[by_split]
    is_kept = np.zeros(len(order), dtype=bool)
    is_kept[np.unique(sets[order], return_index=True)[1]] = True

    target.mkdir(parents=True, exist_ok=True)
    for split, (start, end) in zip(SPLITS, pairwise([0, *split_ends]), strict=True):
        lines = lines_at([folder / f"{split}.jsonl" for folder in sources], order[start:end] - start)
        with (target / f"{split}.jsonl").open("wb") as file:
            for line, kept, first in zip(lines, is_kept[start:end], is_first[start:end], strict=True):
                if kept:
                    file.write(line)
                else:
                    record = from_line(line)
                    ledger.add(record.source, "near_duplicate" if first else "exact_duplicate", body(record))


class Signed:
    """Digests and signatures of all records, in the files that ingest wrote."""

    def __init__(self, paths: Sequence[Path], params: DedupParams) -> None:
        row = np.dtype([("digest", ">u8", 2), ("signature", NOTHING.dtype, params.num_permutations)])
        self.parts = [  # an empty file cannot be mapped
            np.asarray(np.memmap(path, row, "r")) if path.stat().st_size else np.empty(0, row) for path in paths
        ]
        self.ends = np.cumsum([len(part) for part in self.parts])

    def by_digest(self) -> tuple[Numbers, Flags]:
        """All records in the order of their digests, equal ones by number; whether each is the first of its digest."""
        digests = np.concatenate([part["digest"] for part in self.parts])
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        digests = digests[order]
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = (digests[1:] != digests[:-1]).any(axis=1)
        return order, is_first

    def has_shingles(self) -> Flags:
        return np.concatenate([part["signature"].min(axis=1) < NOTHING for part in self.parts])

    def band(self, start: int, end: int) -> NDArray[np.uint64]:
        """[num_records]: keys that are equal where these values are; if others collide, their signatures decide."""
        factors = np.cumprod(np.full(end - start, MIX))
        keys = np.empty(self.ends[-1], dtype=np.uint64)
        for part, part_end in zip(self.parts, self.ends, strict=True):
            of_part = keys[part_end - len(part) : part_end]
            for row in range(0, len(part), BLOCK):
                values = part["signature"][row : row + BLOCK, start:end]
                of_part[row : row + BLOCK] = values.astype(np.uint64) @ factors
        return keys

    def signatures(self, numbers: Numbers) -> NDArray[np.uint32]:
        """[len(numbers), num_permutations]"""
        places = np.searchsorted(self.ends, numbers, side="right")
        found = np.empty((len(numbers), *self.parts[0]["signature"].shape[1:]), dtype=NOTHING.dtype)
        for place in np.unique(places):
            part, here = self.parts[place], places == place
            found[here] = part["signature"][numbers[here] - (self.ends[place] - len(part))]
        return found


def find_sets(signed: Signed, order: Numbers, is_first: Flags, params: DedupParams) -> Numbers:
    """[num_records]: the same number for all records of a set of duplicates, by union-find."""
    parents = np.empty(len(order), dtype=np.int64)
    parents[order] = order[np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))]
    distinct = order[is_first]
    distinct = distinct[signed.has_shingles()[distinct]]
    num_bands, width = bands(params)
    for start in range(0, num_bands * width, width):
        keys = signed.band(start, start + width)[distinct]
        by_key = np.argsort(keys)
        keys = keys[by_key]
        ends = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        sizes = np.diff(ends, prepend=0, append=len(keys))
        for end, size in zip(np.append(ends, len(keys))[sizes > 1], sizes[sizes > 1], strict=True):
            join(distinct[by_key[end - size : end]], parents, signed, params.threshold)
    return roots(np.arange(len(parents)), parents)


def bands(params: DedupParams) -> tuple[int, int]:
    """The number of bands, and of values in each, that suit the threshold."""
    index = MinHashLSH(threshold=params.threshold, num_perm=params.num_permutations)
    return index.b, index.r


def roots(numbers: Numbers, parents: Numbers) -> Numbers:
    while (numbers != (above := parents[numbers])).any():
        numbers = above
    return numbers


def join(proposed: Numbers, parents: Numbers, signed: Signed, threshold: float) -> None:
    """Join the sets of any two of `proposed` whose signatures are near; pairs of one set need no look."""
    for place in range(len(proposed)):
        left = proposed[place:]
        sets = roots(left, parents)
        parents[left] = sets  # shorter paths for the next search
        others = left[sets != sets[0]]
        if not len(others):
            return
        own = signed.signatures(left[:1])
        for start in range(0, len(others), BLOCK):
            block = others[start : start + BLOCK]
            near = block[(signed.signatures(block) == own).mean(axis=1) >= threshold]
            joined = roots(np.append(near, left[0]), parents)
            parents[joined] = joined.min()


def lines_at(paths: Sequence[Path], numbers: Numbers) -> Iterator[bytes]:
    """The lines of these numbers, counted through all files."""
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        lengths = [np.fromiter(map(len, file), dtype=np.int64) for file in files]
        offsets = np.concatenate([np.cumsum(of_file) - of_file for of_file in lengths])
        of_file = np.repeat(np.arange(len(files)), [len(part) for part in lengths])
        for number in numbers:
            file = files[of_file[number]]
            file.seek(offsets[number])
            yield file.readline()
