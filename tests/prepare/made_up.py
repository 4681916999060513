"""Made-up text in the formats of the sources, and params by literal values."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from groundup.prepare.sources.reader import Reader
from groundup.prepare.sources.sources import open_sources
from groundup.runner.params.prepare import PrepareParams

VOCABULARY = [
    f"{start}{end}"
    for start in ("ba", "ce", "di", "fo", "gu", "la", "me", "no")
    for end in ("ra", "nt", "sk", "lo", "pe")
]
OPENINGS = ["What is your favourite smell?", "What if pigs could fly?", "Can computers fall in love?"]
PEOPLE = [f"speaker-{i:02}" for i in range(60)]
PackageMaker = Callable[[str, Any], dict[str, Any]]  # name, content of its JSON file -> source for params


def sentence(rng: random.Random, num_words: int) -> str:
    return " ".join(rng.choice(VOCABULARY) for _ in range(num_words)).capitalize() + "."


def text_rows(count: int, num_words: int = 40, seed: int = 1) -> list[str]:
    """Lines of a .jsonl file."""
    rng = random.Random(seed)
    return [json.dumps({"text": sentence(rng, num_words)}) for _ in range(count)]


def make_conversation(rng: random.Random, num_turns: int, rating: int | None, opening: str | None) -> dict[str, Any]:
    """In the format of chitchat-dataset, between two of PEOPLE."""
    speakers = rng.sample(PEOPLE, 2)
    messages = [[{"sender": speakers[turn % 2], "text": sentence(rng, 9)}] for turn in range(num_turns)]
    entry: dict[str, Any] = {"messages": messages, "start": "2018-04-11T20:58:19Z"}
    if rating is not None:
        entry["ratings"] = {"witty": rating, "interesting": rating, "upbeat": rating}
    if opening is not None:
        entry["prompt"] = opening
    return entry


def files_source(name: str, paths: list[str], yields: str) -> dict[str, Any]:
    return {
        "kind": "files", "name": name, "paths": paths, "yields": yields, "text_column": "text", "licence": "CC0-1.0"
    }  # fmt: skip


def hub_source(dataset: str) -> dict[str, Any]:
    return {
        "kind": "hub", "name": "hub", "dataset": dataset, "config": None, "split": "train", "revision": "01234567" * 5,
        "yields": "text", "text_column": "story", "max_rows": None, "licence": "CC0-1.0",
    }  # fmt: skip


def make_params(sources: list[dict[str, Any]], **sections: Any) -> PrepareParams:
    values: dict[str, Any] = {
        "seed": 3,
        "sources": sources,
        "max_row_bytes": 100_000,
        "max_bad_row_fraction": 0.1,
        "quarantine_rows": 100,
        "clean": {
            "languages": ["en"],
            "min_language_probability": 0.0,  # the made-up words are no language
            "min_language_characters": 80,
            "language_sample_characters": 1000,
            "min_characters": 20,
            "max_characters": 2000,
            "max_repeated_line_fraction": 0.5,
            "repeated_ngram_words": 3,
            "max_repeated_ngram_fraction": 0.5,
        },
        "dedup": {"num_permutations": 128, "shingle_words": 3, "threshold": 0.7},
        "decontaminate_ngram": 8,
        "splits": {"val": 0.1, "test": 0.15, "monitor": 0.1, "judge": 0.1},
        "chats": {"min_turns": 2, "encyclopedia_questions": 1, "max_answer_characters": 200},
        "preferences": {
            "min_rating_gap": 2.0, "excerpt_turns": [4], "margin_scale": 0.1, "max_pairs_per_conversation": 4,
            "relevance": {
                "turns": [2, 4], "min_characters": 5, "pairs_per_reply": 1,
                "earlier_turn_fraction": 0.25, "same_opening_fraction": 0.25,
            },
        },
        "prompts": {"turns": [1, 3, 5], "max_per_conversation": 3},
        "evaluation": {"num_choices": 4, "max_items": 20, "min_choice_characters": 20, "max_characters": 700},
        "canaries": None,
        "card_examples": 2,
    }  # fmt: skip
    for name, value in sections.items():
        values[name] = values[name] | value if isinstance(value, dict) and values[name] else value
    return PrepareParams.model_validate(values)


def open_source(source: dict[str, Any], data_dir: Path, **sections: Any) -> Reader[Any]:
    (reader,) = open_sources(make_params([source], **sections), data_dir, data_dir / "cache")
    return reader


def add_package(site: Path, name: str, content: Any) -> dict[str, Any]:
    """Put a data package with one JSON file into a folder on sys.path; returns its source for params."""
    about, path = site / f"{name}-1.0.dist-info/METADATA", site / name / "data.json"
    for file, text in (
        (about, f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"),
        (path, content if isinstance(content, str) else json.dumps(content)),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return {
        "kind": "package",
        "name": name,
        "package": name,
        "version": "1.0",
        "path": f"{name}/data.json",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": "rated_conversations",
        "max_documents": None,
        "licence": "MIT",
    }
