"""Bad rows: counted by reason and sampled into a file; too many are an error."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from groundup.core.text.pii import replace_pii
from groundup.prepare.ledger import shorten
from groundup.prepare.sources.rows import BadRow

QUARANTINE_FILE = "quarantine.jsonl"
# Who speaks, in JSON or as Python prints it; a value that the sample cuts off has no closing quote.
SPEAKER = re.compile(
    r"""(['"](?:name|sender)['"]\s*:\s*)(?:"(?:[^"\\]|\\.)*(?:"|\\?$)|'(?:[^'\\]|\\.)*(?:'|\\?$)|[^'"\[{,}\]]+)""",
    re.DOTALL,
)
HOPELESS = 1000  # bad rows without a good one: the source does not match params.yaml

REASONS = {
    "empty": "a message, or a list of messages, is empty",
    "missing_column": "a column that the source must have is missing",
    "not_json": "a line is not a JSON object",
    "not_utf8": "a line is not UTF-8",
    "one_speaker": "only one side of a chat speaks",
    "rating": "a rating is not a whole number from 1 to 10",
    "too_large": "more than prepare.max_row_bytes",
    "turns": "user and assistant do not take turns, or the wrong one ends",
    "wrong_type": "a value is of another type than it must be",
}


class Quarantine:
    """The bad rows of one source; the file gets the first `num_samples` of each reason."""

    def __init__(self, source: str, path: Path, max_fraction: float, num_samples: int) -> None:
        self.source = source
        self.path = path
        self.max_fraction = max_fraction
        self.num_samples = num_samples
        self.counts: Counter[str] = Counter()
        self.first: dict[str, BadRow] = {}
        path.touch()

    def add(self, row: BadRow) -> None:
        self.counts[row.reason] += 1
        self.first.setdefault(row.reason, row)
        if self.counts[row.reason] <= self.num_samples:
            entry = {
                "source": self.source,
                "file": row.file,
                "line": row.line,
                "reason": row.reason,
                "sample": redacted(row.sample),
            }
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def check(self, num_good: int) -> None:
        """ValueError if more than the allowed share is bad."""
        num_bad = self.counts.total()
        num_rows = num_bad + num_good
        if num_bad <= self.max_fraction * num_rows:
            return
        lines = [
            f"  {count} {reason}, the first: {self.first[reason].file}, line {self.first[reason].line}: "
            f"{redacted(self.first[reason].problem)}"
            for reason, count in sorted(self.counts.items())
        ]
        raise ValueError(
            f"source {self.source}: {num_bad} of {num_rows} rows read are bad, more than "
            f"prepare.max_bad_row_fraction ({self.max_fraction}) allows:\n" + "\n".join(lines) + "\n"
            f"Correct or remove them ({self.path} holds samples), or raise the share in params.yaml."
        )

    def is_hopeless(self, num_good: int) -> bool:
        """Whether to stop reading: there are only bad rows, and many of them."""
        return num_good == 0 and self.counts.total() >= HOPELESS and self.max_fraction < 1

    def to_json(self) -> dict[str, Any]:
        return dict(sorted(self.counts.items()))


def redacted(text: str) -> str:
    """A short sample without personal data; shortened last, so that no item is cut in two and missed."""
    return shorten(replace_pii(SPEAKER.sub(r"\1[NAME]", text))[0])
