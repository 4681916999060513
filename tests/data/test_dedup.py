import random
import tracemalloc
from pathlib import Path

from groundup.data.dedup import (
    DuplicateIndex,
    deduplicate,
    index_bytes_per_document,
    read_signatures,
    sign,
    write_signatures,
)
from groundup.data.ledger import Ledger
from groundup.data.records import Text, read_records, write_records
from groundup.data.splits import SPLITS
from groundup.frame.params.prepare import DedupParams
from tests.data.made_up import sentence

PARAMS = DedupParams(num_permutations=128, shingle_words=3, threshold=0.7)


def add(index: DuplicateIndex, text: str) -> str | None:
    return index.add(*sign(text, PARAMS, index.empty))


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
    texts = ["no shingle", sentence(random.Random(1), 50), sentence(random.Random(2), 60)]
    for number, text in enumerate(texts):
        write_records(tmp_path / f"{number}.jsonl", [Text(str(number), "s", text)])
    write_signatures([tmp_path / f"{number}.jsonl" for number in range(3)], PARAMS, 1, tmp_path / "signatures.bin")
    empty = DuplicateIndex(PARAMS, seed=1).empty
    stored = list(read_signatures(tmp_path / "signatures.bin", PARAMS, 1))
    for text, (digest, signature) in zip(texts, stored, strict=True):
        expected_digest, expected = sign(text, PARAMS, empty)
        assert digest == expected_digest
        assert signature.tolist() == expected.tolist()
    assert stored[0][1].tolist() == empty.hashvalues.tolist() != stored[1][1].tolist()


def test_train_yields_to_held_out_splits(tmp_path: Path) -> None:
    shared, own = (sentence(random.Random(seed), 40) for seed in (1, 2))
    for split in SPLITS:
        write_records(tmp_path / f"{split}.jsonl", [])
    write_records(tmp_path / "train.jsonl", [Text("t1", "s", shared), Text("t2", "s", own)])
    write_records(tmp_path / "test.jsonl", [Text("h1", "s", shared.lower())])
    ledger = Ledger(2)
    paths = {split: [tmp_path / f"{split}.jsonl"] for split in SPLITS}
    signatures = {split: tmp_path / f"{split}.bin" for split in SPLITS}
    for split in SPLITS:
        write_signatures(paths[split], PARAMS, 1, signatures[split])
    deduplicate(paths, signatures, tmp_path / "out", PARAMS, 1, ledger)
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
