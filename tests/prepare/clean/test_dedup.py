"""Sets of duplicates, and which record of each is kept, against literal cases and a search of all pairs."""

import random
import tracemalloc
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundup.core.formats.records import Text, read_records, write_records
from groundup.core.text.words import ngram_hashes, word_hashes
from groundup.prepare.clean import dedup
from groundup.prepare.clean.dedup import (
    INDEX_BYTES_PER_DOCUMENT,
    Numbers,
    Signed,
    bands,
    deduplicate,
    draw_permutations,
)
from groundup.prepare.clean.signatures import Signature, premix, signature, word_digest
from groundup.prepare.ledger import Ledger
from groundup.prepare.splits import SPLITS
from groundup.runner.params.prepare import DedupParams
from tests.prepare.made_up import sentence

PARAMS = DedupParams(num_permutations=128, shingle_words=3, threshold=0.7)
PERMUTATIONS = draw_permutations(PARAMS, seed=1)
Source = Mapping[str, Sequence[str]]  # texts by split; each is its own id


def sign(text: str) -> tuple[bytes, Signature]:
    words = word_hashes(text)
    return word_digest(words, text), signature(premix(ngram_hashes(words, PARAMS.shingle_words)), PERMUTATIONS)


def write_source(folder: Path, name: str, source: Source) -> Path:
    """As ingest writes it."""
    folder.mkdir(parents=True)
    for split in SPLITS:
        texts = source.get(split, [])
        write_records(folder / f"{split}.jsonl", (Text(text, name, text) for text in texts))
        signed = (digest + values.tobytes() for digest, values in map(sign, texts))
        (folder / f"{split}.signatures").write_bytes(b"".join(signed))
    return folder


def kept(folder: Path, *sources: Source) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The ids kept in each split, and the counts of the reasons of the others."""
    folders = [write_source(folder / f"s{i}", f"s{i}", source) for i, source in enumerate(sources)]
    ledger = Ledger(2)
    deduplicate(folders, folder / "out", PARAMS, ledger)
    ids = {split: [record.id for record in read_records(folder / f"out/{split}.jsonl")] for split in SPLITS}
    counts: dict[str, int] = {}
    for of_source in ledger.counts.values():
        for reason, count in of_source.items():
            counts[reason] = counts.get(reason, 0) + count
    return {split: of_split for split, of_split in ids.items() if of_split}, counts


def digest(text: str) -> bytes:
    return sign(text)[0]


def similarity(one: str, other: str) -> float:
    return float((sign(one)[1] == sign(other)[1]).mean())


WORDS = sentence(random.Random(1), 200).split()
TEXT = " ".join(WORDS)
NEAR = " ".join([*WORDS[:100], "other", *WORDS[101:]])
THIRD = " ".join(WORDS[:100]) + " " + sentence(random.Random(2), 100)  # a third in common


def test_exact_near_and_different_texts(tmp_path: Path) -> None:
    different = sentence(random.Random(3), 200)
    found, counts = kept(tmp_path, {"train": [TEXT, f"{TEXT.upper()}!!", NEAR, THIRD, different]})
    assert counts == {"exact_duplicate": 1, "near_duplicate": 1}
    assert found == {"train": sorted([min(TEXT, NEAR, key=digest), THIRD, different], key=digest)}


def test_texts_too_short_for_shingles_are_compared_exactly(tmp_path: Path) -> None:
    found, counts = kept(tmp_path, {"train": ["hi there", "Hi, there", "hi you", ":-)", ":-("]})
    assert set(found["train"]) == {"hi there", "hi you", ":-)", ":-("}
    assert counts == {"exact_duplicate": 1}


def test_the_same_words_yield_to_the_source_and_row_before(tmp_path: Path) -> None:
    found, counts = kept(tmp_path, {"train": ["b c!", "B c"]}, {"train": ["b C"], "val": ["d"]}, {"val": ["D", "d?"]})
    assert found == {"train": ["b c!"], "val": ["d"]}
    assert counts == {"exact_duplicate": 4}


@pytest.mark.parametrize(
    ("lower", "higher"), [("train", "val"), ("val", "test"), ("test", "monitor"), ("test", "judge")]
)
def test_the_most_held_out_record_is_kept(tmp_path: Path, lower: str, higher: str) -> None:
    for number, (one, other) in enumerate([(TEXT, NEAR), (NEAR, TEXT), (TEXT, TEXT.upper())]):
        found, counts = kept(tmp_path / str(number), {lower: [one, THIRD]}, {higher: [other]})
        assert found == {lower: [THIRD], higher: [other]}
        assert counts == {"exact_duplicate" if one.lower() == other.lower() else "near_duplicate": 1}


def chain(length: int, step: int) -> list[str]:
    """Texts of 100 words, each without the first `step` words of the one before."""
    words = sentence(random.Random(4), 100 + length * step).split()
    return [" ".join(words[i * step : i * step + 100]) for i in range(length)]


def test_a_chain_is_one_set_though_its_ends_have_little_in_common(tmp_path: Path) -> None:
    texts = chain(6, step=10)
    assert min(similarity(*texts[i : i + 2]) for i in range(5)) > 0.75
    assert similarity(texts[0], texts[2]) < 0.7
    for number, order in enumerate((texts, texts[::-1], [texts[i] for i in (0, 5, 2, 3, 1, 4)])):
        found, counts = kept(tmp_path / str(number), {"train": order})
        assert found == {"train": [min(texts, key=digest)]}
        assert counts == {"near_duplicate": 5}
    ends, counts = kept(tmp_path / "ends", {"train": [texts[0], texts[5]]})
    assert len(ends["train"]) == 2
    held_out, _ = kept(tmp_path / "held_out", {"train": texts[:5]}, {"test": texts[5:]})
    assert held_out == {"test": texts[5:]}  # train holds nothing that is connected to a held-out text


def corpus(rng: random.Random) -> list[tuple[str, str]]:
    """(split, text): families of a text and its changed, shortened and shouted copies, and texts of few words."""
    rows = []
    for _ in range(40):
        family = [sentence(rng, rng.randrange(30, 90))]
        for _ in range(rng.randrange(5)):
            words = rng.choice(family).split()
            for _ in range(rng.randrange(1, 4)):
                words[rng.randrange(len(words))] = rng.choice(("one", "two", "three"))
            family.append(" ".join(words[rng.randrange(4) :]))
        family += [f"{text.upper()}?" for text in family if rng.random() < 0.2]
        rows += [(rng.choice(SPLITS), text) for text in family]
    rows += [(rng.choice(SPLITS), rng.choice(("ok", "oh no", "OK!", ":-)", ":-("))) for _ in range(30)]
    rng.shuffle(rows)
    return rows


def by_brute_force(rows: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, int]]:
    """What `kept` returns for one source, by looking at all pairs of records."""
    rows = sorted(rows, key=lambda row: SPLITS.index(row[0]))
    signed = [sign(text) for _, text in rows]
    num_bands, width = bands(PARAMS)
    sets = [{i} for i in range(len(rows))]
    for (i, (digest_i, one)), (j, (digest_j, other)) in combinations(enumerate(signed), 2):
        equal = one == other
        proposed = any(equal[start : start + width].all() for start in range(0, num_bands * width, width))
        has_shingles = one.min() < 0xFFFFFFFF
        if digest_i == digest_j or (has_shingles and proposed and equal.mean() >= PARAMS.threshold):
            joined = sets[i] | sets[j]
            for k in joined:
                sets[k] = joined
    found: dict[str, list[str]] = {}
    counts = {"exact_duplicate": 0, "near_duplicate": 0}
    order = sorted(range(len(rows)), key=lambda i: (SPLITS.index(rows[i][0]), signed[i][0], i))
    for i in order:
        if i == min(sets[i], key=order.index):
            found.setdefault(rows[i][0], []).append(rows[i][1])
        else:
            repeated = any(signed[j][0] == signed[i][0] for j in range(i))
            counts["exact_duplicate" if repeated else "near_duplicate"] += 1
    return found, counts


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_what_a_search_of_all_pairs_finds(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "BLOCK", 3)
    rows = corpus(random.Random(seed))
    expected, counts = by_brute_force(rows)
    assert set(expected) == set(SPLITS)
    assert min(counts.values()) > 10
    for number, cuts in enumerate([(0, len(rows)), (0, 20, 20, len(rows))]):
        parts = [rows[start:end] for start, end in zip(cuts[::2], cuts[1::2], strict=True)]
        sources = [{split: [text for s, text in part if s == split] for split in SPLITS} for part in parts]
        assert kept(tmp_path / str(number), *sources) == (expected, counts)


def test_the_order_of_rows_and_sources_changes_no_byte(tmp_path: Path) -> None:
    """Of texts with the same words the first is kept, so there are none here."""
    rng = random.Random(7)
    rows = list({digest(text): (split, text) for split, text in corpus(rng)}.values())

    def out(name: str, parts: Sequence[Sequence[tuple[str, str]]]) -> dict[str, bytes]:
        folders = [
            write_source(
                tmp_path / name / str(i), "s", {split: [t for s, t in part if s == split] for split in SPLITS}
            )
            for i, part in enumerate(parts)
        ]
        deduplicate(folders, tmp_path / name / "out", PARAMS, Ledger(2))
        return {split: (tmp_path / name / f"out/{split}.jsonl").read_bytes() for split in SPLITS}

    one = out("one", [rows])
    assert out("reversed", [rows[::-1]]) == one
    assert out("two", [rows[::2], rows[1::2]]) == one
    assert out("swapped", [rows[1::2], [], rows[::2][::-1]]) == one
    assert all(one.values())


def test_shards_by_the_first_bits_of_the_digest_make_the_same_files(tmp_path: Path) -> None:
    rows = corpus(random.Random(8))
    found, _ = kept(tmp_path, {split: [text for s, text in rows if s == split] for split in SPLITS})
    for of_split in found.values():
        for num_bits in (0, 1, 4):
            shards: dict[int, list[str]] = {}
            for text in sorted(of_split):  # in any order
                shards.setdefault(digest(text)[0] >> (8 - num_bits), []).append(text)
            assert [text for shard in sorted(shards) for text in sorted(shards[shard], key=digest)] == of_split


def test_nothing_to_compare(tmp_path: Path) -> None:
    assert kept(tmp_path / "none", {}) == ({}, {})
    assert kept(tmp_path / "one", {}, {"val": ["hi"]}) == ({"val": ["hi"]}, {})


def test_pairs_of_a_set_are_not_compared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand texts that differ in a word are half a million pairs."""
    compared = []
    read = Signed.signatures

    def counted(signed: Signed, numbers: Numbers) -> NDArray[np.uint32]:
        compared.append(len(numbers))
        return read(signed, numbers)

    monkeypatch.setattr(Signed, "signatures", counted)
    found, _ = kept(tmp_path, {"train": [" ".join([*WORDS, f"number{i}"]) for i in range(1000)]})
    assert len(found["train"]) == 1
    assert sum(compared) < 5000


def test_stored_signatures_come_back_as_they_were_computed(tmp_path: Path) -> None:
    texts = ["no shingle", sentence(random.Random(1), 50), sentence(random.Random(2), 60)]
    folder = write_source(tmp_path / "s", "s", {"judge": texts[:1], "train": texts[1:]})
    signed = Signed([folder / f"{split}.signatures" for split in SPLITS], PARAMS)
    order, is_first = signed.by_digest()
    assert [texts[number] for number in order] == sorted(texts, key=digest)
    assert is_first.all()
    assert signed.has_shingles().tolist() == [False, True, True]
    numbers = np.array([2, 0, 1, 2])
    assert np.array_equal(signed.signatures(numbers), [sign(texts[number])[1] for number in numbers])


@pytest.mark.parametrize("num_copies", [1, 3])
def test_the_index_takes_no_more_than_the_stated_memory(tmp_path: Path, num_copies: int) -> None:
    rng = random.Random(4)
    permuted = np.random.default_rng(1)
    count = 20_000
    rows = np.dtype([("digest", "V16"), ("signature", "<u4", PARAMS.num_permutations)])
    signed = np.empty(count // num_copies, rows)
    signed["digest"] = [rng.randbytes(16) for _ in signed]
    signed["signature"] = permuted.integers(0, 2**32, (len(signed), PARAMS.num_permutations), dtype=np.uint32)
    signed = np.repeat(signed, num_copies)
    source = write_source(tmp_path / "s", "s", {})
    (source / "train.signatures").write_bytes(signed.tobytes())
    (source / "train.jsonl").write_bytes(b'{"kind": "Text", "id": "a", "source": "s", "text": "b"}\n' * len(signed))
    deduplicate([source], tmp_path / "first", PARAMS, Ledger(2))  # imports
    tracemalloc.start()
    deduplicate([source], tmp_path / "out", PARAMS, Ledger(2))
    taken = tracemalloc.get_traced_memory()[1] / len(signed)
    tracemalloc.stop()
    assert 0.75 * INDEX_BYTES_PER_DOCUMENT < taken < INDEX_BYTES_PER_DOCUMENT, taken
