"""The data card: the origin of every document, what was dropped and why, and the outputs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from groundup.prepare.clean.dedup import INDEX_BYTES_PER_DOCUMENT
from groundup.prepare.clean.pii_quality import QUALITY_HEAD, Quality, measure_pii, planted_rows, quality_rows
from groundup.prepare.ledger import Counts, Ledger
from groundup.prepare.outputs.preferences import pairing_bytes_per_conversation
from groundup.prepare.outputs.relevance import relevance_bytes_per_conversation
from groundup.prepare.quarantine import QUARANTINE_FILE, REASONS
from groundup.runner.files import write_json, write_text
from groundup.runner.params.prepare import PrepareParams

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


def write_card(
    folder: Path,
    params: PrepareParams,
    sources: list[dict[str, Any]],
    bad_rows: Counts,
    drops: Ledger,
    pii: Ledger,
    outputs: dict[str, Any],
    met: dict[str, dict[str, int]],
) -> None:
    """`met` is what count_met returns."""
    card = {
        "sources": sources,
        "bad_rows": bad_rows,
        "dropped": {name: drops.counts.get(name, {}) for name in sorted(source["name"] for source in sources)},
        "dropped_examples": drops.examples,
        "placeholders": pii.counts,
        "placeholder_examples": pii.examples,
        "placeholder_quality": {kind: asdict(found) for kind, found in measure_pii(planted_rows()).items()},
        "outputs": outputs,
        "people_in_train": met,
        "dedup_index_bytes_per_document": INDEX_BYTES_PER_DOCUMENT,
        "pairing_bytes_per_conversation": {
            "rated": pairing_bytes_per_conversation(params.preferences),
            "relevance": relevance_bytes_per_conversation(params.preferences.relevance),
        },
    }
    write_json(folder / "report.json", card)
    write_text(folder / "report.md", to_markdown(card))


def to_markdown(card: dict[str, Any]) -> str:
    sources, pairing = card["sources"], card["pairing_bytes_per_conversation"]
    quality = {kind: Quality(**found) for kind, found in card["placeholder_quality"].items()}
    planted = "src/groundup/prepare/clean/pii_planted.jsonl"
    return "\n".join(
        [
            *("# Data card", "", "## Sources", ""),
            *table(
                ("source", "origin", "version", "licence", "rows", "characters", "documents kept", "characters kept"),
                (
                    (
                        source["name"],
                        source["package"] or f"data/ ({len(source['sha256'])} files)",
                        source["version"] or "-",
                        *(source[key] for key in ("licence", "rows", "characters")),
                        *(source[key] for key in ("documents_kept", "characters_kept")),
                    )
                    for source in sources
                ),
            ),
            *("", "sha256 of the files read:", ""),
            *(f"- `{path}` `{digest}`" for source in sources for path, digest in sorted(source["sha256"].items())),
            *("", "## Bad rows", "", f"Rows that could not be used; samples are in {QUARANTINE_FILE}.", ""),
            *table(
                ("source", "reason", "rows", "meaning"),
                ((source, reason, count, REASONS[reason]) for source, reason, count in flat(card["bad_rows"])),
            ),
            *("", "## Dropped", ""),
            *table(
                ("source", "reason", "documents", "meaning"),
                ((*row, DROP_REASONS[row[1]]) for row in sorted(flat(card["dropped"]))),
            ),
            *("", "Examples:", "", *examples(card["dropped_examples"])),
            *("", "## Personal data replaced", ""),
            *table(
                ("source", "placeholder", "number"),
                ((source, f"[{kind.upper()}]", count) for source, kind, count in sorted(flat(card["placeholders"]))),
            ),
            *("", "Examples:", "", *examples(card["placeholder_examples"])),
            *("", f"How well they are found, measured on planted items ({planted}), not on this text:", ""),
            *table(QUALITY_HEAD, quality_rows(quality)),
            *("", "## What came out", ""),
            *table(
                ("output", "split", "rows", "characters"),
                ((name, split, size["rows"], size["characters"]) for name, split, size in flat(card["outputs"])),
            ),
            *("", "## Who is held out", "", *people(card["people_in_train"])),
            "",
            f"The index of duplicates takes at most {card['dedup_index_bytes_per_document']} bytes of memory for each "
            f"document. Pairing, after it, takes at most {pairing['rated']} bytes for each rated conversation of "
            f"a split, and {pairing['relevance']} for each dialogue. Texts are read from disk as they are needed.",
            "",
        ]
    )


def people(met: Mapping[str, Mapping[str, int]]) -> list[str]:
    if not any(counts["replies"] for counts in met.values()):
        return ["No dialogue of the held-out splits names its speakers: each record is held out by itself."]
    return [
        "Where a source names its speakers, people are held out: a conversation goes to the most held-out split of "
        "its speakers (judge, monitor, test, val, train). So train holds no word of a person of another split, and "
        "each held-out conversation has a speaker whom training has not met; the other one may speak in train, too.",
        "",
        *table(
            ("split", "replies of named speakers", "by people who speak in train, too"),
            ((split, counts["replies"], counts["by_people_in_train"]) for split, counts in met.items()),
        ),
    ]


def flat(nested: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Any]]:
    return ((outer, inner, value) for outer, values in nested.items() for inner, value in values.items())


def table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(format_cell(cell) for cell in row) + " |" for row in cells]


def format_cell(cell: Any) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|")


def examples(by_source: dict[str, dict[str, list[str]]]) -> list[str]:
    return [
        f"- {source}, {reason}: `{example.replace('`', chr(39))}`"
        for source, reason, found in sorted(flat(by_source))
        for example in found
        if example
    ]
