"""MinHash signatures (Broder 1997) as datasketch 2 computes them, without a Python integer for each shingle."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from groundup.core.text.words import Hashes

Signature = NDArray[np.uint32]  # [num_permutations]
Permutations = NDArray[np.uint32]  # [2, num_permutations]: factors, summands
DIGEST_BYTES = 16
NOTHING = np.uint32(0xFFFFFFFF)  # signature values of a text without shingles
BLOCK = 1024  # shingles per block: their products stay in the CPU cache, and memory does not grow with the text


def word_digest(words: Hashes, text: str) -> bytes:
    """Texts without a word (for example emoji) are compared as they are."""
    return blake2b(words.tobytes() or text.encode(), digest_size=DIGEST_BYTES).digest()


def premix(shingles: Hashes) -> NDArray[np.uint32]:
    """The low 32 bits after the murmur3 finalizer (public domain, A. Appleby), as in datasketch."""
    mixed = shingles.astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    return np.asarray(mixed ^ (mixed >> np.uint32(16)), dtype=np.uint32)


def signature(premixed: NDArray[np.uint32], permutations: Permutations) -> Signature:
    """The minimum of each permutation."""
    factors, summands = permutations[:, :, np.newaxis]
    least = np.full(permutations.shape[1], NOTHING)
    for start in range(0, len(premixed), BLOCK):
        np.minimum(least, (factors * premixed[start : start + BLOCK] + summands).min(axis=1), out=least)
    return least
