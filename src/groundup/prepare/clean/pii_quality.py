"""How well replace_pii finds personal data: precision and recall on a planted set, pii_planted.jsonl.

Every row has one item or none. An item counts as found if exactly it was replaced, by the placeholder of its kind.
Rows without an item hold lookalikes: dates, versions, ISBNs, prices, times, digests.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.text.pii import replace_pii

PLANTED = Path(__file__).with_name("pii_planted.jsonl")


@dataclass(frozen=True)
class Quality:
    num_planted: int
    precision: float  # share of the placeholders that replace exactly one planted item
    recall: float  # share of the planted items that were replaced exactly


def measure_pii(rows: list[Row]) -> dict[str, Quality]:
    """Quality by kind."""
    planted: Counter[str] = Counter(row["kind"] for row in rows if row["kind"])
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for row in rows:
        text, counts = replace_pii(row["text"])
        found += counts
        if row["kind"] and text == row["text"].replace(row["item"], f"[{row['kind'].upper()}]"):
            right[row["kind"]] += 1
    return {
        kind: Quality(planted[kind], right[kind] / found[kind] if found[kind] else 0.0, right[kind] / planted[kind])
        for kind in sorted(planted)
    }


QUALITY_HEAD = ("placeholder", "planted", "precision", "recall")


def quality_rows(quality: dict[str, Quality]) -> list[tuple[str, int, str, str]]:
    """Cells of a table under QUALITY_HEAD."""
    return [
        (f"[{kind.upper()}]", of_kind.num_planted, f"{of_kind.precision:.2f}", f"{of_kind.recall:.2f}")
        for kind, of_kind in sorted(quality.items())
    ]


def planted_rows() -> list[Row]:
    return list(read_jsonl(PLANTED))
