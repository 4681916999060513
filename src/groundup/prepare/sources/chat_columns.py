"""The columns in which people keep chats: messages, ShareGPT's conversations, Alpaca's instruction and output."""

from typing import Any

from groundup.core.formats.jsonl import Row

SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}  # the others have the names of messages


def find_chat(row: Row) -> tuple[str, Any]:
    """(column, what it holds as messages with role and content). What cannot be read as such is left as it is."""
    if row.get("messages") is None:  # a table has every column in every row
        if row.get("conversations") is not None:
            return "conversations", _opened(row, _sharegpt(row["conversations"]))
        if row.get("instruction") is not None and "output" in row:
            return "instruction", _opened(row, _alpaca(row))
    return "messages", row.get("messages")


def _sharegpt(turns: Any) -> Any:
    if not isinstance(turns, list):
        return turns
    return [
        {"role": _role(turn["from"]), "content": turn["value"]}
        if isinstance(turn, dict) and {"from", "value"} <= turn.keys()
        else turn
        for turn in turns
    ]


def _role(name: Any) -> Any:
    return SHAREGPT_ROLES.get(name, name) if isinstance(name, str) else name


def _alpaca(row: Row) -> list[Any]:
    """`history`: earlier pairs of instruction and output. `input` follows its instruction.

    A value of another type stands where a text should, so that the row is refused for it.
    """
    earlier, asked, more = row.get("history") or [], row["instruction"], row.get("input")
    if not isinstance(earlier, list) or not all(_is_pair(pair) for pair in earlier):
        earlier = [(earlier, None)]
    if more is not None and not isinstance(more, str):
        asked = more
    elif isinstance(asked, str) and more and more.strip():
        asked = f"{asked}\n\n{more}"
    turns = [*earlier, (asked, row["output"])]
    return [
        {"role": role, "content": content}
        for pair in turns
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _opened(row: Row, messages: Any) -> Any:
    """With the system message of a column of its own, which both formats may have."""
    system = row.get("system")
    if system in (None, "") or not isinstance(messages, list):
        return messages
    return [{"role": "system", "content": system}, *messages]
