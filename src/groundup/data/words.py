"""Words and word n-grams of a text as 64-bit integers: what deduplication, decontamination and filters compare."""

import re

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

WORD = re.compile(r"\w+")
Hashes = NDArray[np.uint64]


def word_hashes(text: str) -> Hashes:
    """[num_words], case and punctuation ignored; xxhash since Python's own hash changes from run to run."""
    words = WORD.findall(text.lower())
    return np.fromiter(map(xxh3_64_intdigest, map(str.encode, words)), dtype=np.uint64, count=len(words))


def ngram_hashes(words: Hashes, n: int) -> Hashes:
    """[num_words - n + 1], empty where the text is shorter than n words."""
    num_ngrams = len(words) - n + 1
    if num_ngrams <= 0:
        return np.empty(0, dtype=np.uint64)
    mixed = words[:num_ngrams].copy()
    for offset in range(1, n):
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + words[
            offset : num_ngrams + offset
        ]
    # The murmur3 finalizer (public domain, A. Appleby): the low bits depend on all bits.
    for constant in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(constant)
    return np.asarray(mixed ^ (mixed >> np.uint64(33)), dtype=np.uint64)
