"""Documents for pretraining."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Record, document, read_records
from groundup.core.text.canaries import make_canaries, plant
from groundup.prepare.outputs.rows import Records, Sizes, write_splits
from groundup.runner.params.prepare import PrepareParams

BORDERS = ("\n\n", "\n", ". ", " ")  # where a long document is cut, best first


def write(params: PrepareParams, records: Records, target: Path) -> Sizes:
    def rows(path: Path) -> Iterator[Row]:
        return texts(read_records(path), params.clean.max_characters)

    def with_canaries(path: Path) -> Iterator[Row]:
        if params.canaries is None or path != records["train"]:
            return rows(path)
        num_rows = sum(1 for _ in rows(path))
        return plant(rows(path), num_rows, make_canaries(params.canaries, params.seed), params.seed)

    return write_splits(target, records, with_canaries)


def texts(records: Iterable[Record], max_characters: int) -> Iterator[Row]:
    """{id, source, text}; a document above `max_characters` becomes several, all in the same split."""
    for record in records:
        if (text := document(record)) is None:
            continue
        parts = split_document(text, max_characters)
        for number, part in enumerate(parts):
            name = record.id if len(parts) == 1 else f"{record.id}#{number}"
            yield {"id": name, "source": record.source, "text": part}


def split_document(text: str, max_characters: int) -> list[str]:
    """Parts of at most `max_characters`, stripped of white space."""
    parts, start = list[str](), 0  # no copies of the rest: on one line of 100 MB they took minutes
    while len(text) - start > max_characters:
        end = cut = start + max_characters
        for border in BORDERS:
            # A border in the first half would leave a short part: use a lesser border instead.
            place = text.rfind(border, start + max_characters // 2, end)
            if place >= 0:
                cut = place + len(border)
                break
        parts.append(text[start:cut].strip())
        start = cut
        while start < len(text) and text[start].isspace():
            start += 1
    return [part for part in [*parts, text[start:]] if part]
