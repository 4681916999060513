from groundup.core.formats.records import Conversation, Prompt
from groundup.prepare.outputs.prompts import prompts
from groundup.runner.params.prepare import PromptParams


def talk(num_turns: int) -> Conversation:
    return Conversation("c", "s", "Topic?", [(i % 2, f"turn {i}") for i in range(num_turns)], None)


def test_prefixes_end_on_the_user() -> None:
    rows = list(prompts([talk(4)], PromptParams(turns=[1, 3, 5], max_per_conversation=3)))
    assert [row["id"] for row in rows] == ["c#1", "c#3"]
    assert {row["conversation_id"] for row in rows} == {"c"}
    assert [m["role"] for m in rows[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert rows[1]["messages"][-1]["content"] == "turn 2"
    assert [row["reply"] for row in rows] == ["turn 1", "turn 3"]


def test_what_nobody_answered_has_no_reply() -> None:
    rows = list(prompts([talk(3)], PromptParams(turns=[1, 3], max_per_conversation=2)))
    assert [row["reply"] for row in rows] == ["turn 1", None]


def test_no_more_than_asked_for() -> None:
    rows = list(prompts([talk(9)], PromptParams(turns=[1, 3, 5], max_per_conversation=2)))
    assert [row["id"] for row in rows] == ["c#1", "c#3"]


def test_prompts_of_users_pass_as_they_are() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    (row,) = prompts([Prompt("p", "s", messages)], PromptParams(turns=[1], max_per_conversation=1))
    assert row == {"id": "p", "conversation_id": "p", "source": "s", "messages": messages, "reply": None}
