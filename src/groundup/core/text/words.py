"""Words and word n-grams of a text as 64-bit integers: what deduplication, decontamination and filters compare."""

import re
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

WORD = re.compile(r"\w+")
Hashes = NDArray[np.uint64]


# In ASCII all that is no \w becomes a space: splitting there takes a third of the time of the pattern.
SPACED = bytes(byte if byte >= 128 or WORD.match(chr(byte)) else ord(" ") for byte in range(256))


def encoded_words(text: str) -> list[bytes]:
    """Case and punctuation ignored."""
    text = text.lower()
    if text.isascii():
        return text.encode().translate(SPACED).split()
    return list(map(str.encode, WORD.findall(text)))


def word_hashes(text: str) -> Hashes:
    """[num_words], xxhash since Python's own hash changes from run to run."""
    words = encoded_words(text)
    return np.fromiter(map(xxh3_64_intdigest, words), dtype=np.uint64, count=len(words))


class Words:
    """Hashes of the words of many texts at once: numpy takes longer to be called than for a text."""

    def __init__(self, texts: Sequence[str]) -> None:
        of_texts = list(map(encoded_words, texts))
        self.ends = list(accumulate(map(len, of_texts), initial=0))
        self.hashes: Hashes = np.fromiter(
            map(xxh3_64_intdigest, chain.from_iterable(of_texts)), dtype=np.uint64, count=self.ends[-1]
        )

    def by_text(self) -> list[Hashes]:
        return [self.hashes[start:end] for start, end in pairwise(self.ends)]

    def cut(self, of_ngrams: np.ndarray, n: int) -> list[np.ndarray]:
        """For each text what stands in `of_ngrams`, [number of n-grams of `hashes`], for those within the text."""
        return [of_ngrams[start : max(start, end - n + 1)] for start, end in pairwise(self.ends)]

    def ngrams(self, n: int) -> list[Hashes]:
        """What ngram_hashes gives for each text."""
        return self.cut(ngram_hashes(self.hashes, n), n)


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
