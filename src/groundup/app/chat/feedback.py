"""Thumbs become preference pairs of a better rated and a worse rated reply to one prompt."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from groundup.core.formats.hashing import content_id
from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.prepare.sources.rows import RowError, to_record
from groundup.runner.files import write_text

TARGET = "feedback/preferences.jsonl"  # below data/
SOURCE = f"""\
    - kind: files
      name: feedback
      paths: ["{TARGET}"]
      yields: preferences
      text_column: text
      licence: own"""
RATINGS = {"up": 1, "none": 0, "down": -1}


@dataclass
class RatedReplies:
    """Replies to one prompt that somebody has seen and rated."""

    messages: list[dict[str, str]]
    ratings: dict[str, int] = field(default_factory=dict)  # the last rating of each reply
    shown_together: set[frozenset[str]] = field(default_factory=set)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(better, worse). A reply without a thumb is compared only with replies it was shown beside."""
        for pair in combinations(sorted(self.ratings), 2):
            worse, better = sorted(pair, key=self.ratings.__getitem__)
            rated = self.ratings[better] and self.ratings[worse]
            if self.ratings[better] > self.ratings[worse] and (rated or frozenset(pair) in self.shown_together):
                yield better, worse


@dataclass(frozen=True)
class Import:
    num_prompts: int
    num_ratings: int  # replies with a thumb
    num_unpaired: int  # number of these that are in no pair
    num_pairs: int
    num_rows: int  # in the file, with those of earlier imports
    problems: list[str]  # why entries were left out


def import_feedback(log: Path, target: Path) -> Import:
    """Write `target`; its pairs whose prompt is not in the log stay, all others are rebuilt from the log."""
    if not log.is_file():
        raise ValueError(f"there is no feedback in {log}: give thumbs on the page of `groundup serve` first")
    problems: list[str] = []
    prompts = read_feedback(log, problems)
    rows: dict[str, Row] = {}
    in_pair = set()
    for key, replies in prompts.items():
        for better, worse in replies.pairs():
            row = pair_row(key, replies.messages, better, worse)
            try:
                to_record("feedback", "preferences", row, "text")
            except RowError as error:
                problems.append(f"a pair was left out: {error}")
                continue
            rows[row["id"]] = row
            in_pair |= {(key, better), (key, worse)}
    num_pairs = len(rows)
    for row in read_jsonl(target, ("id", "prompt")) if target.is_file() else ():
        if prompt_key(row["prompt"]) not in prompts:
            rows[row["id"]] = row
    if rows or target.is_file():
        write_text(target, "".join(json.dumps(rows[name], ensure_ascii=False) + "\n" for name in sorted(rows)))
    rated = {
        (key, reply) for key, replies in prompts.items() for reply, rating in replies.ratings.items() if rating != 0
    }
    return Import(len(prompts), len(rated), len(rated - in_pair), num_pairs, len(rows), problems)


def read_feedback(log: Path, problems: list[str]) -> dict[str, RatedReplies]:
    """Replies by prompt; adds a sentence to `problems` for each line that is left out."""
    prompts: dict[str, RatedReplies] = {}
    for number, line in enumerate(log.read_bytes().splitlines(), start=1):
        try:
            given: Any = json.loads(line)
            messages, rating = given["messages"], RATINGS[given["rating"]]
            reply, beside = given["reply"].strip(), (given["beside"] or "").strip()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{log}, line {number} is left out: it is not a thumb ({type(error).__name__}: {error})")
            continue
        replies = prompts.setdefault(prompt_key(messages), RatedReplies(messages))
        replies.ratings[reply] = rating
        if beside and beside != reply:
            replies.ratings.setdefault(beside, 0)
            replies.shown_together.add(frozenset((reply, beside)))
    return prompts


def prompt_key(messages: Any) -> str:
    return content_id(json.dumps(messages, sort_keys=True))


def pair_row(key: str, messages: list[dict[str, str]], better: str, worse: str) -> Row:
    """The id does not depend on which reply won, so that changed thumbs replace the row."""
    name = content_id("\0".join([key, *sorted((better, worse))]))
    return {"id": name, "prompt": messages, "chosen": better, "rejected": worse}
