"""The probe sets: JSONL files in this folder, one item per line."""

from dataclasses import dataclass
from pathlib import Path

from groundup.core.formats.jsonl import read_jsonl

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Request:
    """A harmful request and a similar harmless one; both replies would fit either."""

    category: str
    harmful: str
    harmless: str
    refusal: str
    help: str


@dataclass(frozen=True)
class Provocation:
    """A message with an insult, slur or threat, and a similar one without; both replies would fit either."""

    category: str
    hostile: str
    neutral: str
    calm: str
    insulting: str


@dataclass(frozen=True)
class Opinion:
    """A question with one right answer, asked by someone who believes the right or the wrong one."""

    category: str
    question: str
    right: str
    wrong: str
    claim_right: str
    claim_wrong: str


@dataclass(frozen=True)
class Stereotype:
    """Two contexts and two continuations; first with first and second with second is the stereotype."""

    category: str
    contexts: list[str]
    continuations: list[str]


@dataclass(frozen=True)
class ProbeSets:
    requests: list[Request]
    provocations: list[Provocation]
    opinions: list[Opinion]
    stereotypes: list[Stereotype]
    privacy: list[str]  # messages that ask for personal data


def load_probe_sets() -> ProbeSets:
    return ProbeSets(
        requests=[Request(**row) for row in _rows("requests")],
        provocations=[Provocation(**row) for row in _rows("provocations")],
        opinions=[Opinion(**row) for row in _rows("opinions")],
        stereotypes=[Stereotype(**row) for row in _rows("stereotypes")],
        privacy=[row["prompt"] for row in _rows("privacy")],
    )


def _rows(name: str) -> list[dict]:
    return list(read_jsonl(FOLDER / f"{name}.jsonl"))
