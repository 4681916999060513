import random
import tracemalloc
from pathlib import Path

from groundup.data.dedup import DuplicateIndex, deduplicate, index_bytes_per_document
from groundup.data.ledger import Ledger
from groundup.data.records import Text, read_records, write_records
from groundup.data.splits import SPLITS
from groundup.frame.params.prepare import DedupParams
from tests.data.made_up import sentence

PARAMS = DedupParams(num_permutations=128, shingle_words=3, threshold=0.7)


def test_exact_near_and_different_texts() -> None:
    index = DuplicateIndex(PARAMS, seed=1)
    text = sentence(random.Random(1), 200)
    words = text.split()
    assert index.add("a", text) is None
    assert index.add("b", text.upper() + "!!") == "exact_duplicate"
    assert index.add("c", " ".join([*words[:100], "other", *words[101:]])) == "near_duplicate"
    assert index.add("d", " ".join(words[:100]) + sentence(random.Random(2), 100)) is None  # a third in common
    assert index.add("e", sentence(random.Random(3), 200)) is None


def test_texts_too_short_for_shingles_are_compared_exactly() -> None:
    index = DuplicateIndex(PARAMS, seed=1)
    assert [
        index.add(name, text) for name, text in enumerate_texts("hi there", "Hi, there", "hi you", ":-)", ":-(")
    ] == [
        None,
        "exact_duplicate",
        None,
        None,
        None,
    ]


def enumerate_texts(*texts: str) -> list[tuple[str, str]]:
    return [(str(number), text) for number, text in enumerate(texts)]


def test_train_yields_to_held_out_splits(tmp_path: Path) -> None:
    shared, own = (sentence(random.Random(seed), 40) for seed in (1, 2))
    for split in SPLITS:
        write_records(tmp_path / f"{split}.jsonl", [])
    write_records(tmp_path / "train.jsonl", [Text("t1", "s", shared), Text("t2", "s", own)])
    write_records(tmp_path / "test.jsonl", [Text("h1", "s", shared.lower())])
    ledger = Ledger(2)
    deduplicate(tmp_path, tmp_path / "out", PARAMS, 1, ledger)
    assert [record.id for record in read_records(tmp_path / "out/train.jsonl")] == ["t2"]
    assert [record.id for record in read_records(tmp_path / "out/test.jsonl")] == ["h1"]
    assert ledger.counts == {"s": {"exact_duplicate": 1}}


def test_the_stated_memory_of_the_index_is_what_it_takes() -> None:
    rng = random.Random(4)
    texts = [sentence(rng, 60) for _ in range(1500)]
    index = DuplicateIndex(PARAMS, seed=1)
    tracemalloc.start()
    for number, text in enumerate(texts):
        assert index.add(str(number), text) is None
    taken = tracemalloc.get_traced_memory()[0] / len(texts)
    tracemalloc.stop()
    stated = index_bytes_per_document(PARAMS)
    assert 0.85 * stated < taken < 1.15 * stated, taken
