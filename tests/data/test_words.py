import numpy as np

from groundup.data.words import ngram_hashes, word_hashes


def test_case_and_punctuation_do_not_count() -> None:
    assert np.array_equal(word_hashes("Hello,   World!"), word_hashes("hello world"))
    assert not np.array_equal(word_hashes("hello world"), word_hashes("world hello"))


def test_hashes_are_the_same_in_every_process() -> None:
    # xxh3_64 of b"hello", as published by the xxHash command line tool.
    assert int(word_hashes("hello")[0]) == 0x9555E8555C62DCFD


def test_ngrams_are_windows_over_the_words() -> None:
    text = ngram_hashes(word_hashes("a b c d"), 3)
    assert len(text) == 2
    assert text[1] == ngram_hashes(word_hashes("b c d"), 3)[0]
    assert len(ngram_hashes(word_hashes("a b"), 3)) == 0


def test_no_two_ngrams_of_a_long_text_collide() -> None:
    words = word_hashes(" ".join(map(str, range(20_000))))
    assert len(np.unique(ngram_hashes(words, 5))) == 20_000 - 4
    assert len(np.unique(ngram_hashes(words, 5) & np.uint64(0xFFFFFFFF))) > 20_000 - 10  # MinHash takes the low bits
