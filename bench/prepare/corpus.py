"""The text of the data packages as JSONL, once or several times with other words in it."""

import json
import random
from pathlib import Path

from groundup.core.formats.records import body
from groundup.prepare.sources.packages import Package
from groundup.prepare.sources.rows import BadRow
from groundup.runner.params.prepare import PackageSource, PrepareParams

NUM_FILES = 2  # datatrove shares work out by file
REPLACED = 0.5  # of the words of a copy: then no copy is a near duplicate of its original


def write_corpus(params: PrepareParams, folder: Path, times: float) -> int:
    """Number of documents; below 1 `times` takes the first of them alone."""
    texts = [
        body(record)
        for source in params.sources
        if isinstance(source, PackageSource)
        for record in Package(source, folder, folder, params).read()
        if not isinstance(record, BadRow)
    ]
    pool = [word for text in texts for word in text.split()]
    texts = texts[: round(len(texts) * min(1.0, times))]
    folder.mkdir(parents=True)
    files = [(folder / f"{number}.jsonl").open("w", encoding="utf-8") for number in range(NUM_FILES)]
    num_documents = 0
    for copy in range(max(1, round(times))):
        generator = random.Random(copy)
        for text in texts:
            varied = text if copy == 0 else vary(text, pool, generator)
            row = {"id": str(num_documents), "text": varied}
            files[num_documents % NUM_FILES].write(json.dumps(row, ensure_ascii=False) + "\n")
            num_documents += 1
    for file in files:
        file.close()
    return num_documents


def vary(text: str, pool: list[str], generator: random.Random) -> str:
    """Spaces and line ends stay where they are."""
    lines = [
        " ".join(generator.choice(pool) if generator.random() < REPLACED else word for word in line.split(" "))
        for line in text.split("\n")
    ]
    return "\n".join(lines)
