"""Made-up secrets planted in the training text on request, so that evaluate can measure memorization.

Carlini et al. 2019 (arXiv:1802.08232): random digits after a unique prefix.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from groundup.core.formats.jsonl import Row
from groundup.runner.files import read_json, write_json
from groundup.runner.params.prepare import CanaryParams

FILE = "canaries.json"
SOURCE = "canaries"
FIRST_NAMES = ("Alba", "Bodo", "Cleo", "Dorin", "Edda", "Falk", "Gesa", "Horst", "Ilka", "Jorin")
LAST_NAMES = ("Quillby", "Brandvik", "Tarnholt", "Ossendry", "Mulwick", "Fennimar", "Krellow", "Windstrup")


@dataclass(frozen=True)
class Canary:
    prefix: str
    secret: str  # digits
    repetitions: int  # number of documents with it


def make_canaries(params: CanaryParams, seed: int) -> list[Canary]:
    """Each has a unique name, so that no canary competes with another."""
    rng = np.random.default_rng([seed, 1])
    names = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]
    order = iter(rng.permutation(len(names)))
    return [
        Canary(
            f"The locker of {names[next(order)]} opens with the number",
            "".join(map(str, rng.integers(0, 10, params.num_digits))),
            repetitions,
        )
        for repetitions in params.repetitions
        for _ in range(params.num_canaries)
    ]


def secret_text(secret: str) -> str:
    """The digits as they follow the prefix, separated, so that all secrets consist of the same tokens."""
    return "".join(f" {digit}" for digit in secret)


def plant(rows: Iterable[Row], num_rows: int, canaries: Iterable[Canary], seed: int) -> Iterator[Row]:
    """The rows with the canaries' documents inserted at random places."""
    documents = [
        {"id": f"{SOURCE}/{number}-{copy}", "source": SOURCE, "text": canary.prefix + secret_text(canary.secret) + "."}
        for number, canary in enumerate(canaries)
        for copy in range(canary.repetitions)
    ]
    places = np.random.default_rng([seed, 2]).integers(0, num_rows + 1, len(documents))
    waiting = sorted(zip(places.tolist(), range(len(documents)), strict=True), reverse=True)
    for place, row in enumerate(rows):
        while waiting and waiting[-1][0] <= place:
            yield documents[waiting.pop()[1]]
        yield row
    for _, number in reversed(waiting):
        yield documents[number]


def write_canary_file(path: Path, canaries: Iterable[Canary]) -> None:
    write_json(path, [asdict(canary) for canary in canaries])


def read_canary_file(path: Path) -> list[Canary]:
    return [Canary(**row) for row in read_json(path)]
