import random
from pathlib import Path

import pytest

from groundup.core.formats.records import Article, Conversation, Record, Text, read_records, write_records
from groundup.prepare.clean.decontaminate import EVALUATED_SPLITS, decontaminate
from groundup.prepare.ledger import Ledger
from groundup.prepare.processes import Processes
from tests.prepare.made_up import sentence

N = 13
LEAK = "the quick brown fox jumps over the lazy dog and then it sleeps well"  # 14 words


def run(tmp_path: Path, train: list[Record], **held_out: list[Record]) -> tuple[list[str], Ledger]:
    """Ids left in train."""
    for split in EVALUATED_SPLITS:
        write_records(tmp_path / f"{split}.jsonl", held_out.get(split, []))
    write_records(tmp_path / "train.jsonl", train)
    ledger = Ledger(3)
    with Processes(1) as processes:
        decontaminate(tmp_path, tmp_path / "out", N, ledger, processes)
    return [record.id for record in read_records(tmp_path / "out/train.jsonl")], ledger


@pytest.mark.parametrize("split", EVALUATED_SPLITS)
def test_a_planted_leak_is_found(tmp_path: Path, split: str) -> None:
    rng = random.Random(1)
    leaked = f"{sentence(rng, 50)} {LEAK.upper()}! {sentence(rng, 50)}"
    train: list[Record] = [Text("clean", "s", sentence(rng, 200)), Text("leaked", "s", leaked)]
    held_out: list[Record] = [Text("h", "s", f"{sentence(rng, 30)} {LEAK}")]
    kept, ledger = run(tmp_path, train, **{split: held_out})
    assert kept == ["clean"]
    assert ledger.counts == {"s": {"contaminated": 1}}
    assert ledger.examples["s"]["contaminated"] == [" ".join(LEAK.split()[:N])]


def test_a_leak_across_turns_of_a_training_chat_is_found(tmp_path: Path) -> None:
    words = LEAK.split()
    chat = Conversation("chat", "s", None, [(0, " ".join(words[:7])), (1, " ".join(words[7:]))], None)
    assert run(tmp_path, [chat], test=[Article("a", "s", "Fox", "", None, LEAK)])[0] == []


def test_fewer_words_than_n_in_common_are_no_leak(tmp_path: Path) -> None:
    train: list[Record] = [Text("t", "s", " ".join(LEAK.split()[: N - 1]) + " but otherwise different")]
    assert run(tmp_path, train, test=[Text("h", "s", LEAK)])[0] == ["t"]


def test_quoting_the_opening_line_is_no_leak(tmp_path: Path) -> None:
    opening = "If you could relive one day of your life, which would it be and why?"  # 15 words
    train = [Conversation("t", "s", opening, [(0, opening), (1, "My first day at school.")], None)]
    test = [Conversation("h", "s", opening, [(0, opening), (1, "None of them.")], None)]
    assert run(tmp_path, list(train), test=list(test))[0] == ["t"]


def test_nothing_held_out_drops_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, [Text("t", "s", LEAK)])[0] == ["t"]
