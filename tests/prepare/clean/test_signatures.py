import random

import numpy as np
import pytest
from datasketch import MinHash

from groundup.core.text.words import ngram_hashes, word_hashes
from groundup.prepare.clean.signatures import BLOCK, NOTHING, premix, signature
from tests.prepare.made_up import sentence


@pytest.mark.parametrize("num_permutations", [1, 64, 128])
@pytest.mark.parametrize("num_words", [5, 6, 300, 2 * BLOCK + 7])
def test_signatures_are_those_of_datasketch(num_words: int, num_permutations: int) -> None:
    shingles = ngram_hashes(word_hashes(sentence(random.Random(num_words), num_words)), 5)
    sketch = MinHash(num_perm=num_permutations, seed=3, hashfunc=int)
    ours = signature(premix(shingles), sketch.permutations)
    sketch.update_batch((shingles & np.uint64(0xFFFFFFFF)).tolist())
    assert ours.dtype == sketch.hashvalues.dtype
    assert np.array_equal(ours, sketch.hashvalues)


def test_a_text_without_a_shingle_has_the_signature_of_an_empty_sketch() -> None:
    sketch = MinHash(num_perm=8, seed=3)
    nothing = signature(premix(np.empty(0, dtype=np.uint64)), sketch.permutations)
    assert np.array_equal(nothing, sketch.hashvalues)
    assert (nothing == NOTHING).all()
