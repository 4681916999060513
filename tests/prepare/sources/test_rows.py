import json

import pytest

from groundup.core.formats.records import Conversation, Record, Text
from groundup.prepare.sources.rows import BadRow, read_row
from groundup.runner.params.prepare import FilesSource
from tests.prepare.made_up import files_source


def files_source_of(yields: str) -> FilesSource:
    return FilesSource.model_validate(files_source("own", ["a.jsonl"], yields))


def read(row: dict[str, object], yields: str, max_bytes: int = 10_000) -> Record | BadRow:
    return read_row(files_source_of(yields), "data/a.jsonl", 2, json.dumps(row).encode(), max_bytes)


USER, ASSISTANT = {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}
HUMAN, GPT = {"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}
ALPACA = {"instruction": "x", "output": "y"}
GOOD: dict[str, dict[str, object]] = {
    "text": {"text": "x"},
    "chats": {"messages": [USER, ASSISTANT]},
    "prompts": {"prompt": "hi"},
    "preferences": {"prompt": "a", "chosen": "b", "rejected": "c"},
}


@pytest.mark.parametrize(
    ("yields", "row", "reason", "words"),
    [
        ("text", {"content": "x"}, "missing_column", "no column 'text', only content"),
        ("text", {"text": 3}, "wrong_type", "'text' must be text, got int"),
        ("text", {"text": None}, "wrong_type", "'text' must be text, got NoneType"),
        ("text", {"text": "x" * 20_000}, "too_large", "more than prepare.max_row_bytes (10000)"),
        ("chats", {"text": "x"}, "missing_column", "no column 'messages', only text"),
        ("chats", {"messages": {}}, "wrong_type", "'messages' must be a text or a list of messages"),
        ("chats", {"messages": []}, "empty", "'messages' has no message"),
        (
            "chats",
            {"messages": [USER, {**ASSISTANT, "content": " \n"}]},
            "empty",
            "a message of the assistant is empty",
        ),
        ("chats", {"messages": [{"role": "bot", "content": "x"}]}, "wrong_type", "a message needs role"),
        ("chats", {"messages": [{"role": "user"}]}, "wrong_type", "a message needs role"),
        ("chats", {"messages": ["x", "y"]}, "wrong_type", "a message needs role"),
        ("chats", {"messages": "x"}, "one_speaker", "only user speaks"),
        ("chats", {"messages": [USER, USER]}, "one_speaker", "only user speaks"),
        ("chats", {"messages": [{"role": "system", "content": "x"}]}, "one_speaker", "only system speaks"),
        ("chats", {"messages": [ASSISTANT, USER]}, "turns", "user and assistant must take turns"),
        ("chats", {"conversations": "x"}, "one_speaker", "conversations: only user speaks"),
        ("chats", {"conversations": 3}, "wrong_type", "'conversations' must be a text or a list of messages"),
        ("chats", {"conversations": []}, "empty", "'conversations' has no message"),
        ("chats", {"conversations": [HUMAN, {"from": "gpt"}]}, "wrong_type", "'conversations': a message needs role"),
        ("chats", {"conversations": [HUMAN, {"from": "tool", "value": "y"}]}, "wrong_type", "got {'role': 'tool'"),
        ("chats", {"conversations": [HUMAN, {"from": ["gpt"], "value": "y"}]}, "wrong_type", "needs role"),
        ("chats", {"conversations": [HUMAN, {**GPT, "value": " "}]}, "empty", "a message of the assistant is empty"),
        ("chats", {"conversations": [GPT, HUMAN]}, "turns", "conversations: after an optional system message"),
        ("chats", {"conversations": [HUMAN, GPT], "system": 3}, "wrong_type", "'conversations': a message needs role"),
        ("chats", {"instruction": "x"}, "missing_column", "no column 'messages', only instruction"),
        ("chats", {"instruction": "x", "output": None}, "wrong_type", "'instruction': a message needs role"),
        ("chats", {"instruction": "x", "output": ""}, "empty", "'instruction': a message of the assistant is empty"),
        ("chats", {"instruction": 3, "input": "x", "output": "y"}, "wrong_type", "got {'role': 'user', 'content': 3}"),
        ("chats", {"instruction": "x", "input": 3, "output": "y"}, "wrong_type", "got {'role': 'user', 'content': 3}"),
        ("chats", {**ALPACA, "history": "x"}, "wrong_type", "'instruction': a message needs role"),
        ("chats", {**ALPACA, "history": [["a"]]}, "wrong_type", "'instruction': a message needs role"),
        ("chats", {**ALPACA, "history": [["a", 3]]}, "wrong_type", "got {'role': 'assistant', 'content': 3}"),
        ("chats", {"messages": [USER, USER, ASSISTANT]}, "turns", "user and assistant must take turns"),
        ("prompts", {"messages": [{"role": "system", "content": "x"}]}, "turns", "user and assistant must take turns"),
        ("prompts", {"messages": [USER, ASSISTANT]}, "turns", "must end on a user message"),
        ("prompts", {"text": "x"}, "missing_column", "no column 'prompt', only text"),
        ("preferences", {"prompt": "a", "chosen": "b"}, "missing_column", "no column 'rejected'"),
        ("preferences", {**GOOD["preferences"], "rejected": ""}, "empty", "a message of the assistant is empty"),
        ("preferences", {**GOOD["preferences"], "margin": "big"}, "wrong_type", "'margin' must be"),
        ("preferences", {**GOOD["preferences"], "margin": float("nan")}, "wrong_type", "'margin' must be"),
        ("preferences", {**GOOD["preferences"], "chosen": [USER]}, "turns", "must take turns"),
    ],
)
def test_a_bad_row_is_named(yields: str, row: dict[str, object], reason: str, words: str) -> None:
    assert not isinstance(read(GOOD[yields], yields), BadRow)
    bad = read(row, yields)
    assert isinstance(bad, BadRow)
    assert (bad.file, bad.line, bad.reason) == ("data/a.jsonl", 2, reason)
    assert words in bad.problem


def test_a_developer_is_the_system_under_its_newer_name() -> None:
    topic = {"role": "system", "content": "be brief"}
    for yields, row in (("chats", {"messages": [USER, ASSISTANT]}), ("prompts", {"messages": [USER]})):
        first, second = (
            read({"messages": [{**topic, "role": role}, *row["messages"]], "id": 1}, yields)
            for role in ("system", "developer")
        )
        assert not isinstance(first, BadRow)
        assert first == second


def chat(*names: object) -> dict[str, object]:
    """User and assistant take turns, with these names."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": "x", "name": name} for i, name in enumerate(names)]
    return {"messages": [{"role": "system", "content": "Be kind", "name": "house"}, *messages]}


@pytest.mark.parametrize(
    ("row", "speakers"),
    [
        (chat("Ada", "Ben", "Ada"), ["Ada", "Ben"]),
        (chat(" Ada", "Ben "), ["Ada", "Ben"]),
        (chat("Ada", "Ada"), ["Ada", "Ada"]),
        (chat("Ada", "Ben", "Cleo"), []),  # who is the user?
        (chat("Ada", "Ben", "Ada", "Cleo"), []),
        (chat("Ada", None), []),
        (chat("Ada", "Ben", ""), []),
        (chat("Ada", 7), []),
        (chat("Ada", ["Ben"]), []),
        (chat("Ada", "\ud83d"), ["Ada", "?"]),  # half a surrogate pair
        ({"messages": [USER, ASSISTANT]}, []),
    ],
)
def test_speakers_are_named_where_user_and_assistant_have_one_name_each(
    row: dict[str, object], speakers: list[str]
) -> None:
    record = read(row, "chats")
    assert isinstance(record, Conversation)
    assert record.speakers == speakers


def test_the_limit_counts_bytes_in_tables_too() -> None:
    text = "\u00e9" * 50
    assert isinstance(read_row(files_source_of("text"), "a", 1, {"text": text}, 100), Text)
    bad = read_row(files_source_of("text"), "a", 1, {"text": text + "x"}, 100)
    assert isinstance(bad, BadRow)
    assert bad.reason == "too_large"


def test_a_problem_is_bounded_and_does_not_cut_personal_data_in_two() -> None:
    missing = read({f"column {i}": 1 for i in range(5000)}, "chats", max_bytes=10**6)
    role = read({"messages": [{"role": "bot", "content": "a mail of some length: jane.doe@example.org"}]}, "chats")
    assert isinstance(missing, BadRow)
    assert isinstance(role, BadRow)
    assert len(missing.problem) == 2000
    assert "jane.doe@example.org" in role.problem  # whole, so that the quarantine finds it


def test_half_a_surrogate_pair_can_be_written_again() -> None:
    good = read({"id": "\ud800", "text": "x"}, "text")
    bad = read({"texts": 1, "\udfff": "y"}, "text")
    assert isinstance(good, Text)
    assert good.id.encode() == b"own/?"
    assert isinstance(bad, BadRow)
    assert bad.sample.encode()
    assert bad.problem.encode()
    assert isinstance(read({"text": "x\ud800"}, "text"), Text)


@pytest.mark.parametrize(
    ("row", "opening", "turns"),
    [
        ({"conversations": [HUMAN, GPT]}, None, [(0, "x"), (1, "y")]),
        ({"conversations": [HUMAN, GPT], "messages": None, "system": None}, None, [(0, "x"), (1, "y")]),
        ({"conversations": [HUMAN, GPT, HUMAN], "system": "s"}, "s", [(0, "x"), (1, "y"), (0, "x")]),
        ({"conversations": [{"from": "system", "value": "s"}, HUMAN, GPT]}, "s", [(0, "x"), (1, "y")]),
        ({"conversations": [USER, ASSISTANT]}, None, [(0, "x"), (1, "y")]),
        ({"conversations": [{"from": "user", "value": "x"}, {"from": "assistant", "value": "y"}]}, None, "xy"),
        ({"messages": [USER, ASSISTANT], "conversations": 3}, None, [(0, "x"), (1, "y")]),
        (ALPACA, None, [(0, "x"), (1, "y")]),
        ({**ALPACA, "input": "", "system": "", "history": []}, None, [(0, "x"), (1, "y")]),
        ({**ALPACA, "input": "z"}, None, [(0, "x\n\nz"), (1, "y")]),
        ({**ALPACA, "history": [["a", "b"]], "system": "s"}, "s", [(0, "a"), (1, "b"), (0, "x"), (1, "y")]),
    ],
)
def test_chats_of_sharegpt_and_alpaca(row: dict[str, object], opening: str | None, turns: object) -> None:
    read_as = read(row, "chats")
    assert isinstance(read_as, Conversation)
    assert read_as.opening == opening
    assert read_as.turns == (list(enumerate(turns)) if isinstance(turns, str) else turns)
    assert read_as.speakers == []
