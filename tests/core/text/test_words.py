import numpy as np

from groundup.core.text.words import WORD, Words, encoded_words, ngram_hashes, word_hashes


def test_case_and_punctuation_do_not_count() -> None:
    assert np.array_equal(word_hashes("Hello,   World!"), word_hashes("hello world"))
    assert not np.array_equal(word_hashes("hello world"), word_hashes("world hello"))


def test_hashes_are_the_same_in_every_process() -> None:
    # xxh3_64 of b"hello", as published by the xxHash command line tool.
    assert int(word_hashes("hello")[0]) == 0x9555E8555C62DCFD


def test_ascii_is_split_where_the_pattern_splits_it() -> None:
    every = "".join(map(chr, range(128)))
    text = f"It's {every} 3.5 snake_case"
    assert encoded_words(text) == [word.encode() for word in WORD.findall(text.lower())]
    assert encoded_words("Caf\u00e9-au lait") == ["caf\u00e9".encode(), b"au", b"lait"]


def test_words_of_many_texts_are_those_of_each() -> None:
    texts = ["a b c d", "", "e f", "caf\u00e9 g h!"]
    words = Words(texts)
    for found, ngrams, text in zip(words.by_text(), words.ngrams(3), texts, strict=True):
        assert np.array_equal(found, word_hashes(text))
        assert np.array_equal(ngrams, ngram_hashes(word_hashes(text), 3))
    assert list(map(len, words.ngrams(3))) == [2, 0, 0, 1]
    assert len(Words([]).hashes) == 0


def test_ngrams_are_windows_over_the_words() -> None:
    text = ngram_hashes(word_hashes("a b c d"), 3)
    assert len(text) == 2
    assert text[1] == ngram_hashes(word_hashes("b c d"), 3)[0]
    assert len(ngram_hashes(word_hashes("a b"), 3)) == 0


def test_no_two_ngrams_of_a_long_text_collide() -> None:
    words = word_hashes(" ".join(map(str, range(20_000))))
    assert len(np.unique(ngram_hashes(words, 5))) == 20_000 - 4
    assert len(np.unique(ngram_hashes(words, 5) & np.uint64(0xFFFFFFFF))) > 20_000 - 10  # MinHash takes the low bits
