"""Records that sources yield: one dataclass per kind, and how prepare stores them between its steps."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from groundup.core.formats.jsonl import Row, read_jsonl, write_jsonl

Message = dict[str, str]  # role, content
Turn = tuple[int, str]  # speaker by order of appearance, what was said


@dataclass(frozen=True)
class Text:
    id: str
    source: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """`opening` is the given line that the speakers talk about.

    `speakers` are their names, in the order of the numbers in `turns`; empty where the source names nobody. Names are
    personal data: they decide the split and reach no output.
    """

    id: str
    source: str
    opening: str | None
    turns: list[Turn]
    ratings: dict[str, int] | None
    speakers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Article:
    id: str
    source: str
    title: str
    description: str
    topic: str | None
    extract: str


@dataclass(frozen=True)
class Preference:
    """`chosen` and `rejected` continue `prompt`."""

    id: str
    source: str
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    margin: float


@dataclass(frozen=True)
class Prompt:
    id: str
    source: str
    messages: list[Message]


Record = Text | Conversation | Article | Preference | Prompt
KINDS: dict[str, type[Text | Conversation | Article | Preference | Prompt]] = {
    kind.__name__: kind for kind in (Text, Conversation, Article, Preference, Prompt)
}


def read_records(path: Path) -> Iterator[Record]:
    for row in read_jsonl(path):
        yield from_row(row)


def write_records(path: Path, records: Iterable[Record]) -> int:
    return write_jsonl(path, map(to_row, records))


def to_line(record: Record) -> bytes:
    return f"{json.dumps(to_row(record), ensure_ascii=False)}\n".encode()


def from_line(line: bytes) -> Record:
    return from_row(json.loads(line))


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file of records, undecoded, for steps that pass most of them on unchanged."""
    with path.open("rb") as lines:
        yield from lines


def to_row(record: Record) -> Row:
    return {"kind": type(record).__name__, **vars(record)}


def from_row(row: Row) -> Record:
    kind = KINDS[row.pop("kind")]
    if kind is Conversation:
        row["turns"] = [(speaker, said) for speaker, said in row["turns"]]
    return kind(**row)


def body(record: Record) -> str:
    """The text of the record itself, without the opening line, which many conversations share."""
    match record:
        case Text():
            return record.text
        case Conversation():
            return "\n".join(said for _, said in record.turns)
        case Article():
            return record.extract
        case Preference():
            return "\n".join(m["content"] for m in chain(record.prompt, record.chosen, record.rejected))
        case Prompt():
            return "\n".join(m["content"] for m in record.messages)


def document(record: Record) -> str | None:
    """Text for pretraining; None if the record is not a document."""
    match record:
        case Text():
            return record.text
        case Conversation():
            return body(record) if record.opening is None else f"{record.opening}\n{body(record)}"
        case Article():
            return f"{record.title}\n{record.extract}"
        case Preference() | Prompt():
            return None


def said(messages: Iterable[Message]) -> str:
    """The turns of a chat, without what the speakers were given to talk about."""
    return "\n".join(message["content"] for message in messages if message["role"] != "system")


def mean_rating(conversation: Conversation) -> float | None:
    if conversation.ratings is None:
        return None
    return sum(conversation.ratings.values()) / len(conversation.ratings)


def is_dialogue(conversation: Conversation) -> bool:
    """Whether there are exactly two speakers, who become user and assistant."""
    return {speaker for speaker, _ in conversation.turns} == {0, 1}


def role_of(name: str) -> str:
    """OpenAI's newer name of the system is developer."""
    return "system" if name == "developer" else name


def to_messages(conversation: Conversation, num_turns: int) -> list[Message]:
    """The first `num_turns` turns of a dialogue; the opening is the system message, the first speaker the user."""
    opening = [] if conversation.opening is None else [{"role": "system", "content": conversation.opening}]
    roles = ("user", "assistant")
    return opening + [{"role": roles[speaker], "content": said} for speaker, said in conversation.turns[:num_turns]]
