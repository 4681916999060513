"""The data card: where every document came from, what was dropped and why, what came out."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from groundup.prepare.clean.pii_quality import QUALITY_HEAD, Quality, measure_pii, planted_rows, quality_rows
from groundup.prepare.ledger import Ledger
from groundup.prepare.quarantine import QUARANTINE_FILE, REASONS
from groundup.runner.files import write_json, write_text

DROP_REASONS = {
    "empty": "nothing left after cleaning",
    "too_short": "shorter than prepare.clean.min_characters",
    "empty_message": "a message is empty after cleaning",
    "repeated_lines": "mostly repeated lines",
    "repeated_ngrams": "mostly repeated word sequences",
    "language": "not in prepare.clean.languages",
    "exact_duplicate": "the same words as another document",
    "near_duplicate": "nearly the same as another document (MinHash)",
    "contaminated": "train only: shares an n-gram with an evaluated document (the shared words are shown)",
}


def write_card(folder: Path, card: dict[str, Any]) -> None:
    write_json(folder / "report.json", card)
    write_text(folder / "report.md", to_markdown(card))


def build_card(
    sources: list[dict[str, Any]],
    bad_rows: dict[str, dict[str, int]],
    drops: Ledger,
    pii: Ledger,
    outputs: dict[str, Any],
    index_bytes: int,
    pairing_bytes: dict[str, int],
) -> dict[str, Any]:
    return {
        "sources": sources,
        "bad_rows": bad_rows,
        "dropped": {name: drops.to_json()["counts"].get(name, {}) for name in sorted(s["name"] for s in sources)},
        "dropped_examples": drops.examples,
        "placeholders": pii.counts,
        "placeholder_examples": pii.examples,
        "placeholder_quality": {kind: asdict(found) for kind, found in measure_pii(planted_rows()).items()},
        "outputs": outputs,
        "dedup_index_bytes_per_document": index_bytes,
        "pairing_bytes_per_conversation": pairing_bytes,
    }


def to_markdown(card: dict[str, Any]) -> str:
    lines = ["# Data card", "", "## Sources", ""]
    lines += table(
        ("source", "origin", "version", "licence", "rows", "characters", "documents kept", "characters kept"),
        (
            (
                source["name"],
                source["package"] or f"data/ ({len(source['sha256'])} files)",
                source["version"] or "-",
                source["licence"],
                source["rows"],
                source["characters"],
                source["documents_kept"],
                source["characters_kept"],
            )
            for source in card["sources"]
        ),
    )
    lines += ["", "sha256 of the files read:", ""]
    lines += [
        f"- `{path}` `{digest}`" for source in card["sources"] for path, digest in sorted(source["sha256"].items())
    ]
    lines += ["", "## Bad rows", "", f"Rows that could not be used; samples are in {QUARANTINE_FILE}.", ""]
    lines += table(
        ("source", "reason", "rows", "meaning"),
        (
            (source, reason, count, REASONS[reason])
            for source, counts in card["bad_rows"].items()
            for reason, count in counts.items()
        ),
    )
    lines += ["", "## Dropped", ""]
    lines += table(
        ("source", "reason", "documents", "meaning"),
        (
            (source, reason, count, DROP_REASONS[reason])
            for source, counts in card["dropped"].items()
            for reason, count in sorted(counts.items())
        ),
    )
    lines += ["", "Examples:", "", *examples(card["dropped_examples"])]
    lines += ["", "## Personal data replaced", ""]
    lines += table(
        ("source", "placeholder", "number"),
        (
            (source, f"[{kind.upper()}]", count)
            for source, counts in sorted(card["placeholders"].items())
            for kind, count in sorted(counts.items())
        ),
    )
    lines += ["", "Examples:", "", *examples(card["placeholder_examples"])]
    planted = "src/groundup/prepare/clean/pii_planted.jsonl"
    lines += ["", f"How well they are found, measured on planted items ({planted}), not on this text:", ""]
    quality = {kind: Quality(**found) for kind, found in card["placeholder_quality"].items()}
    lines += table(QUALITY_HEAD, quality_rows(quality))
    lines += ["", "## What came out", ""]
    lines += table(
        ("output", "split", "rows", "characters"),
        (
            (output, split, size["rows"], size["characters"])
            for output, splits in card["outputs"].items()
            for split, size in splits.items()
        ),
    )
    pairing = card["pairing_bytes_per_conversation"]
    lines += [
        "",
        f"The index of duplicates takes about {card['dedup_index_bytes_per_document']} bytes of memory for each "
        "document it keeps. Pairing, after it, takes at most "
        f"{pairing['rated']} bytes for each rated conversation of a split, and {pairing['relevance']} for each "
        "dialogue. Texts are read from disk as they are needed.",
        "",
    ]
    return "\n".join(lines)


def table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(format_cell(cell) for cell in row) + " |" for row in cells]


def format_cell(cell: Any) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|")


def examples(by_source: dict[str, dict[str, list[str]]]) -> list[str]:
    return [
        f"- {source}, {reason}: `{example.replace('`', chr(39))}`"
        for source, by_reason in sorted(by_source.items())
        for reason, found in sorted(by_reason.items())
        for example in found
        if example
    ]
