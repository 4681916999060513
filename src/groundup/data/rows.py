"""Rows that users bring, from files or a dataset, checked and turned into records."""

import json
import math
from typing import Any

from groundup.data.hashing import content_id
from groundup.data.jsonl import Row
from groundup.data.records import Conversation, Message, Preference, Prompt, Record, Text

ROLES = ("system", "user", "assistant")


class RowError(ValueError):
    """What a row lacks; the reader adds where it stands."""


def to_record(source: str, yields: str, row: Row, text_column: str) -> Record:
    """`yields` of the source decides what the row must hold."""
    name = str(row["id"]) if row.get("id") is not None else content_id(json.dumps(row, sort_keys=True, default=str))
    identity = f"{source}/{name}"
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
    messages = _messages(row, "messages", "user")
    _check_turns(messages, "messages", last=None)
    opening = messages[0]["content"] if messages[0]["role"] == "system" else None
    turns = [(int(m["role"] == "assistant"), m["content"]) for m in messages if m["role"] != "system"]
    return Conversation(identity, source, opening, turns, ratings=None)


def _string(row: Row, column: str) -> str:
    if column not in row:
        raise RowError(f"no column {column!r}, only {', '.join(row) or 'none'}")
    if not isinstance(row[column], str):
        raise RowError(f"{column!r} must be text, got {type(row[column]).__name__}")
    return str(row[column])


def _messages(row: Row, column: str, role_of_text: str) -> list[Message]:
    """A list of messages as it stands, or a text as one message."""
    value: Any = row.get(column)
    if isinstance(value, str):
        return [{"role": role_of_text, "content": value}]
    if not isinstance(value, list) or not value:
        raise RowError(f"{column!r} must be a text or a list of messages (role, content), got {value!r:.60}")
    for message in value:
        if (
            not isinstance(message, dict)
            or not isinstance(message.get("content"), str)
            or message.get("role") not in ROLES
        ):
            raise RowError(f"{column!r}: a message needs role ({', '.join(ROLES)}) and content, got {message!r:.60}")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _check_turns(messages: list[Message], column: str, last: str | None) -> None:
    roles = [m["role"] for m in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or any(role != ("user", "assistant")[i % 2] for i, role in enumerate(turns)):
        raise RowError(f"{column}: after an optional system message user and assistant must take turns, got {roles}")
    if last is not None and turns[-1] != last:
        raise RowError(f"{column}: must end on a {last} message, got {roles}")


def _margin(row: Row) -> float:
    margin: Any = row.get("margin")
    if margin is None:
        return 0.0
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin):
        raise RowError(f"'margin' must be a finite number, got {margin!r}")
    return float(margin)
