"""What prepare dropped or replaced, by source and reason, with a few examples of each."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

EXAMPLE_CHARACTERS = 160  # enough to recognize a document in the data card
Counts = Mapping[str, Mapping[str, int]]  # by source and reason


@dataclass
class Ledger:
    num_examples: int
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    examples: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, source: str, reason: str, example: str, count: int = 1) -> None:
        self.merge(Ledger(1, {source: {reason: count}}, {source: {reason: [shorten(example)]}}))

    def merge(self, other: "Ledger") -> None:
        """Add another ledger; its examples come after the present ones."""
        for source, reasons in other.counts.items():
            of_source = self.counts.setdefault(source, {})
            for reason, count in reasons.items():
                of_source[reason] = of_source.get(reason, 0) + count
        for source, by_reason in other.examples.items():
            for reason, found in by_reason.items():
                kept = self.examples.setdefault(source, {}).setdefault(reason, [])
                kept.extend(found[: self.num_examples - len(kept)])

    def to_json(self) -> dict[str, Any]:
        return {"counts": self.counts, "examples": self.examples}


def merge_ledgers(num_examples: int, parts: Iterable[dict[str, Any]]) -> Ledger:
    """One ledger from those that the steps stored."""
    merged = Ledger(num_examples)
    for part in parts:
        merged.merge(Ledger(num_examples, **part))
    return merged


def totals(counts: Counts) -> Counter[str]:
    """Sum over all sources, by reason."""
    return sum((Counter(of_source) for of_source in counts.values()), Counter())


def shorten(text: str) -> str:
    line = " / ".join(text.split("\n"))
    return line if len(line) <= EXAMPLE_CHARACTERS else line[: EXAMPLE_CHARACTERS - 3] + "..."
