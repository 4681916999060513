"""What prepare dropped or replaced, by source and reason, with a few examples of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

EXAMPLE_CHARACTERS = 160  # enough to recognise a document in the data card


@dataclass
class Ledger:
    num_examples: int
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    examples: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, source: str, reason: str, example: str, count: int = 1) -> None:
        of_source = self.counts.setdefault(source, {})
        of_source[reason] = of_source.get(reason, 0) + count
        kept = self.examples.setdefault(source, {}).setdefault(reason, [])
        if len(kept) < self.num_examples:
            kept.append(shorten(example))

    def total(self, reason: str) -> int:
        return sum(of_source.get(reason, 0) for of_source in self.counts.values())

    def merge(self, counts: Mapping[str, Mapping[str, int]], examples: Mapping[str, Mapping[str, list[str]]]) -> None:
        """What another ledger holds comes after what is here."""
        for source, reasons in counts.items():
            of_source = self.counts.setdefault(source, {})
            for reason, count in reasons.items():
                of_source[reason] = of_source.get(reason, 0) + count
        for source, by_reason in examples.items():
            for reason, found in by_reason.items():
                kept = self.examples.setdefault(source, {}).setdefault(reason, [])
                kept.extend(found[: self.num_examples - len(kept)])

    def to_json(self) -> dict[str, Any]:
        return {"counts": self.counts, "examples": self.examples}


def merge_ledgers(num_examples: int, parts: Iterable[dict[str, Any]]) -> Ledger:
    """One ledger from those that the steps stored; every part brings its own reasons or sources."""
    merged = Ledger(num_examples)
    for part in parts:
        merged.merge(part["counts"], part["examples"])
    return merged


def shorten(text: str) -> str:
    line = " / ".join(text.split("\n"))
    return line if len(line) <= EXAMPLE_CHARACTERS else line[: EXAMPLE_CHARACTERS - 3] + "..."
