"""Words and word n-grams of a text as 64-bit integers, for deduplication, decontamination and filters."""

import re
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

WORD = re.compile(r"\w+")
Hashes = NDArray[np.uint64]


# Maps every ASCII byte that is not \w to a space: splitting there takes a third of the pattern's time.
SPACED = bytes(byte if byte >= 128 or WORD.match(chr(byte)) else ord(" ") for byte in range(256))


def encoded_words(text: str) -> list[bytes]:
    """The lower-case words, without punctuation."""
    text = text.lower()
    if text.isascii():
        return text.encode().translate(SPACED).split()
    return list(map(str.encode, WORD.findall(text)))


def word_hashes(text: str) -> Hashes:
    """[num_words], by xxhash, because Python's own hash changes from run to run."""
    words = encoded_words(text)
    return np.fromiter(map(xxh3_64_intdigest, words), dtype=np.uint64, count=len(words))


class Words:
    """Hashes of the words of many texts at once, since a numpy call costs more than the work on one text."""

    def __init__(self, texts: Sequence[str]) -> None:
        of_texts = list(map(encoded_words, texts))
        self.ends = list(accumulate(map(len, of_texts), initial=0))
        self.hashes: Hashes = np.fromiter(
            map(xxh3_64_intdigest, chain.from_iterable(of_texts)), dtype=np.uint64, count=self.ends[-1]
        )

    def by_text(self) -> list[Hashes]:
        return [self.hashes[start:end] for start, end in pairwise(self.ends)]

    def cut(self, of_ngrams: np.ndarray, n: int) -> list[np.ndarray]:
        """For each text its part of `of_ngrams` [number of n-grams of `hashes`], without n-grams that cross texts."""
        return [of_ngrams[start : max(start, end - n + 1)] for start, end in pairwise(self.ends)]

    def ngrams(self, n: int) -> list[Hashes]:
        """ngram_hashes of each text."""
        return self.cut(ngram_hashes(self.hashes, n), n)


def ngram_hashes(words: Hashes, n: int) -> Hashes:
    """[num_words - n + 1], empty if the text is shorter than n words."""
    num_ngrams = len(words) - n + 1
    if num_ngrams <= 0:
        return np.empty(0, dtype=np.uint64)
    mixed = words[:num_ngrams].copy()
    for offset in range(1, n):
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + words[
            offset : num_ngrams + offset
        ]
    # The murmur3 finalizer (public domain, A. Appleby) makes the low bits depend on all bits.
    for constant in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(constant)
    return np.asarray(mixed ^ (mixed >> np.uint64(33)), dtype=np.uint64)
