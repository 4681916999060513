import json
from pathlib import Path

from groundup.prepare.card import write_card
from groundup.prepare.ledger import Ledger, merge_ledgers, totals
from tests.prepare.made_up import files_source, make_params


def test_ledger_keeps_the_first_examples_and_counts_all() -> None:
    ledger = Ledger(2)
    for text in ("one\ntwo", "x" * 500, "third"):
        ledger.add("s", "too_short", text)
    assert ledger.counts == {"s": {"too_short": 3}}
    assert ledger.examples["s"]["too_short"] == ["one / two", "x" * 157 + "..."]


def test_ledgers_add_up() -> None:
    parts = []
    for name in ("a", "b", "c"):
        ledger = Ledger(2)
        ledger.add("s", "language", name)
        parts.append(ledger.to_json())
    merged = merge_ledgers(2, parts)
    assert merged.counts == {"s": {"language": 3}}
    assert merged.examples == {"s": {"language": ["a", "b"]}}
    merged.add("t", "language", "d", 4)
    assert totals(merged.counts) == {"language": 7}


def test_card_says_where_from_what_was_dropped_and_what_came_out(tmp_path: Path) -> None:
    source = {
        "name": "talk",
        "kind": "package",
        "package": "talk-data",
        "version": "1.0",
        "sha256": {"talk/data.json": "abc"},
        "licence": "MIT",
        "rows": 1234,
        "characters": 5000,
        "documents_kept": 1000,
        "characters_kept": 4000,
    }
    drops, pii = Ledger(1), Ledger(1)
    drops.add("talk", "near_duplicate", "a | b `c`")
    pii.add("talk", "email", "[EMAIL] wrote", 3)
    outputs = {"text": {"train": {"rows": 900, "characters": 3900}}}
    write_card(
        tmp_path,
        make_params([files_source("own", ["*"], "text")]),
        [source],
        {"talk": {"not_json": 7}},
        drops,
        pii,
        outputs,
        {"val": {"replies": 1200, "by_people_in_train": 500}, "test": {"replies": 0, "by_people_in_train": 0}},
    )
    text = (tmp_path / "report.md").read_text()
    for line in (
        "| talk | talk-data | 1.0 | MIT | 1,234 | 5,000 | 1,000 | 4,000 |",
        "- `talk/data.json` `abc`",
        "| talk | not_json | 7 | a line is not a JSON object |",
        "| talk | near_duplicate | 1 | nearly the same as another document (MinHash) |",
        "- talk, near_duplicate: `a | b 'c'`",
        "| talk | [EMAIL] | 3 |",
        "| placeholder | planted | precision | recall |",
        "| text | train | 900 | 3,900 |",
        "| val | 1,200 | 500 |",
    ):
        assert line in text.split("\n")
    assert "takes at most 85 bytes of memory for each document" in text
    assert "at most 750 bytes for each rated conversation of a split, and 700 for each dialogue" in text
    assert json.loads((tmp_path / "report.json").read_text())["dropped"] == {"talk": {"near_duplicate": 1}}
