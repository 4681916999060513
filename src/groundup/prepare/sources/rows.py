"""Rows of the user's files or datasets, checked and converted to records."""

import json
import math
from dataclasses import dataclass
from typing import Any

from groundup.core.formats.hashing import content_id
from groundup.core.formats.jsonl import Row
from groundup.core.formats.records import Conversation, Message, Preference, Prompt, Record, Text, body, role_of
from groundup.prepare.sources.chat_columns import find_chat
from groundup.runner.params.prepare import RowsSource

ROLES = ("system", "user", "assistant", "developer")
SAMPLE_CHARACTERS = 2000  # of a bad row or its problem; the quarantine shortens it after personal data is replaced


class RowError(ValueError):
    """What is wrong with a row; the reader adds the place."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(start_of(problem))
        self.reason = reason  # one of quarantine.REASONS


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used; `line` counts from 1; in files without lines it is the row number."""

    file: str
    line: int
    reason: str
    problem: str
    sample: str


def read_row(
    source: RowsSource, file: str, line: int, raw: bytes | Row, max_bytes: int, ids_in: str = ""
) -> Record | BadRow:
    """`raw` is a line of JSON or a row of a table; its id is one of the source, or of the file `ids_in` alone."""
    try:
        try:
            row = parse_line(raw, max_bytes) if isinstance(raw, bytes) else raw
            record = to_record(source.name, source.yields, row, source.text_column, ids_in)
        except RecursionError:
            raise RowError("not_json", "brackets are nested too deeply") from None
        if len(body(record).encode(errors="surrogatepass")) > max_bytes:
            raise RowError("too_large", f"more than prepare.max_row_bytes ({max_bytes})")
    except RowError as error:
        return BadRow(file, line, error.reason, str(error), sample(raw))
    return record


def sample(raw: bytes | Row) -> str:
    if isinstance(raw, bytes):
        return raw[: 4 * SAMPLE_CHARACTERS].decode(errors="replace").strip()[:SAMPLE_CHARACTERS]
    values = (f"{column}: {str(value)[:SAMPLE_CHARACTERS]}" for column, value in raw.items())
    return start_of(", ".join(values))


def start_of(text: str) -> str:
    return text[:SAMPLE_CHARACTERS].encode(errors="replace").decode()  # JSON can hold half a surrogate pair


def parse_line(line: bytes, max_bytes: int) -> Row:
    if len(line.rstrip(b"\r\n")) > max_bytes:
        raise RowError("too_large", f"more than prepare.max_row_bytes ({max_bytes})")
    try:
        row = json.loads(line.decode("utf-8-sig"))  # some programs start a file with a byte order mark
    except UnicodeDecodeError as error:
        raise RowError("not_utf8", f"byte {error.start + 1} is not UTF-8 ({error.reason})") from None
    except ValueError as error:
        raise RowError("not_json", f"not JSON ({error}); one object a line") from None
    if not isinstance(row, dict):
        raise RowError("not_json", f"one JSON object a line, got {type(row).__name__}")
    return row


def to_record(source: str, yields: str, row: Row, text_column: str, ids_in: str = "") -> Record:
    """`yields` of the source decides which columns the row needs."""
    if row.get("id") is None:
        name = content_id(json.dumps(row, sort_keys=True, default=str))
    else:
        name = f"{ids_in}#{row['id']}" if ids_in else str(row["id"])
    identity = f"{source}/{name}".encode(errors="replace").decode()  # JSON can hold half a surrogate pair
    match yields:
        case "text":
            return Text(identity, source, _string(row, text_column))
        case "chats":
            return _conversation(identity, source, row)
        case "preferences":
            prompt = _messages(row, "prompt", "user")
            chosen, rejected = (_messages(row, column, "assistant") for column in ("chosen", "rejected"))
            _check_turns(prompt, "prompt", last="user")
            for column, continuation in (("chosen", chosen), ("rejected", rejected)):
                _check_turns(prompt + continuation, f"prompt + {column}", last="assistant")
            return Preference(identity, source, prompt, chosen, rejected, _margin(row))
        case "prompts":
            prompt = _messages(row, "messages" if "messages" in row else "prompt", "user")
            _check_turns(prompt, "prompt", last="user")
            return Prompt(identity, source, prompt)
        case _:
            raise AssertionError(yields)


def _conversation(identity: str, source: str, row: Row) -> Conversation:
    column, chat = find_chat(row)
    messages = _messages(row if column == "messages" else {column: chat}, column, "user")
    roles = {message["role"] for message in messages} - {"system"}
    if len(roles) < 2:
        raise RowError("one_speaker", f"{column}: only {', '.join(roles) or 'system'} speaks; a chat needs both")
    _check_turns(messages, column, last=None)
    opening = messages[0]["content"] if messages[0]["role"] == "system" else None
    turns = [(int(m["role"] == "assistant"), m["content"]) for m in messages if m["role"] != "system"]
    return Conversation(identity, source, opening, turns, ratings=None, speakers=_speakers(chat))


def _speakers(messages: list[Row]) -> list[str]:
    """The names of user and assistant; empty unless every turn has a `name`, and each of the two one alone."""
    named = {(m["role"], _name(m)) for m in messages if role_of(m["role"]) != "system"}
    names = dict(named)
    return [names["user"], names["assistant"]] if len(named) == 2 and all(names.values()) else []


def _name(message: Row) -> str:
    name = message.get("name")
    return name.strip().encode(errors="replace").decode() if isinstance(name, str) else ""


def _value(row: Row, column: str) -> Any:
    if column not in row:
        raise RowError("missing_column", f"no column {column!r}, only {', '.join(row) or 'none'}")
    return row[column]


def _string(row: Row, column: str) -> str:
    value = _value(row, column)
    if not isinstance(value, str):
        raise RowError("wrong_type", f"{column!r} must be text, got {type(value).__name__}")
    return value


def _messages(row: Row, column: str, role_of_text: str) -> list[Message]:
    """A list of messages, or a text as a single message."""
    value = _value(row, column)
    if isinstance(value, str):
        value = [{"role": role_of_text, "content": value}]
    if not isinstance(value, list):
        raise RowError(
            "wrong_type",
            f"{column!r} must be a text or a list of messages (role, content), got {type(value).__name__}",
        )
    if not value:
        raise RowError("empty", f"{column!r} has no message")
    for message in value:
        if (
            not isinstance(message, dict)
            or not isinstance(message.get("content"), str)
            or message.get("role") not in ROLES
        ):
            raise RowError(
                "wrong_type", f"{column!r}: a message needs role ({', '.join(ROLES)}) and content, got {message!r}"
            )
        if not message["content"].strip():
            raise RowError("empty", f"{column!r}: a message of the {message['role']} is empty")
    return [{"role": role_of(message["role"]), "content": message["content"]} for message in value]


def _check_turns(messages: list[Message], column: str, last: str | None) -> None:
    roles = [m["role"] for m in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or any(role != ("user", "assistant")[i % 2] for i, role in enumerate(turns)):
        raise RowError(
            "turns", f"{column}: after an optional system message user and assistant must take turns, got {roles}"
        )
    if last is not None and turns[-1] != last:
        raise RowError("turns", f"{column}: must end on a {last} message, got {roles}")


def _margin(row: Row) -> float:
    margin: Any = row.get("margin")
    if margin is None:
        return 0.0
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
        raise RowError("wrong_type", f"'margin' must be a finite number, got {margin!r}")
    return float(margin)
