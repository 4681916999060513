import random
import tracemalloc
from pathlib import Path

import numpy as np

from groundup.core.formats.records import Text, read_records, write_records
from groundup.core.text.words import ngram_hashes, word_hashes
from groundup.prepare.clean.dedup import (
    DuplicateIndex,
    deduplicate,
    draw_permutations,
    index_bytes_per_document,
    read_signatures,
)
from groundup.prepare.clean.signatures import Signature, premix, signature, word_digest
from groundup.prepare.ledger import Ledger
from groundup.prepare.splits import SPLITS
from groundup.runner.params.prepare import DedupParams
from tests.prepare.made_up import sentence

PARAMS = DedupParams(num_permutations=128, shingle_words=3, threshold=0.7)


PERMUTATIONS = draw_permutations(PARAMS, seed=1)


def sign(text: str) -> tuple[bytes, Signature]:
    words = word_hashes(text)
    return word_digest(words, text), signature(premix(ngram_hashes(words, PARAMS.shingle_words)), PERMUTATIONS)


def add(index: DuplicateIndex, text: str) -> str | None:
    return index.add(*sign(text))


def test_exact_near_and_different_texts() -> None:
    index = DuplicateIndex(PARAMS, seed=1)
    text = sentence(random.Random(1), 200)
    words = text.split()
    assert add(index, text) is None
    assert add(index, text.upper() + "!!") == "exact_duplicate"
    assert add(index, " ".join([*words[:100], "other", *words[101:]])) == "near_duplicate"
    assert add(index, " ".join(words[:100]) + sentence(random.Random(2), 100)) is None  # a third in common
    assert add(index, sentence(random.Random(3), 200)) is None


def test_texts_too_short_for_shingles_are_compared_exactly() -> None:
    index = DuplicateIndex(PARAMS, seed=1)
    results = [add(index, text) for text in ("hi there", "Hi, there", "hi you", ":-)", ":-(")]
    assert results == [None, "exact_duplicate", None, None, None]


def test_stored_signatures_come_back_as_they_were_computed(tmp_path: Path) -> None:
    signed = [sign(text) for text in ("no shingle", sentence(random.Random(1), 50), sentence(random.Random(2), 60))]
    (tmp_path / "s").write_bytes(b"".join(digest + values.tobytes() for digest, values in signed))
    for (digest, values), (stored_digest, stored) in zip(signed, read_signatures(tmp_path / "s", PARAMS), strict=True):
        assert stored_digest == digest
        assert np.array_equal(stored, values)


def test_train_yields_to_held_out_splits(tmp_path: Path) -> None:
    shared, own = (sentence(random.Random(seed), 40) for seed in (1, 2))
    records = {"train": [Text("t1", "s", shared), Text("t2", "s", own)], "test": [Text("h1", "s", shared.lower())]}
    for split in SPLITS:
        of_split = records.get(split, [])
        write_records(tmp_path / f"{split}.jsonl", of_split)
        signed = [sign(record.text) for record in of_split]
        (tmp_path / f"{split}.signatures").write_bytes(b"".join(d + values.tobytes() for d, values in signed))
    ledger = Ledger(2)
    deduplicate([tmp_path], tmp_path / "out", PARAMS, 1, ledger)
    assert [record.id for record in read_records(tmp_path / "out/train.jsonl")] == ["t2"]
    assert [record.id for record in read_records(tmp_path / "out/test.jsonl")] == ["h1"]
    assert ledger.counts == {"s": {"exact_duplicate": 1}}


def test_the_stated_memory_of_the_index_is_what_it_takes() -> None:
    rng = random.Random(4)
    texts = [sentence(rng, 60) for _ in range(1500)]
    index = DuplicateIndex(PARAMS, seed=1)
    tracemalloc.start()
    for text in texts:
        assert add(index, text) is None
    taken = tracemalloc.get_traced_memory()[0] / len(texts)
    tracemalloc.stop()
    stated = index_bytes_per_document(PARAMS)
    assert 0.85 * stated < taken < 1.15 * stated, taken
