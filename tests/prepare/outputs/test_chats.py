from groundup.core.formats.records import Article, Conversation, Prompt, Record, Text
from groundup.prepare.outputs.chats import chats
from groundup.runner.params.prepare import ChatParams

PARAMS = ChatParams(min_turns=4, encyclopedia_questions=1, max_answer_characters=100)


def talk(num_turns: int, speakers: int = 2, opening: str | None = "Topic?") -> Conversation:
    return Conversation(f"c{num_turns}", "s", opening, [(i % speakers, f"turn {i}") for i in range(num_turns)], None)


def test_a_dialogue_begins_with_its_opening_and_ends_on_the_assistant() -> None:
    (row,) = chats([talk(5)], PARAMS, seed=1)
    assert row == {
        "id": "c5",
        "source": "s",
        "messages": [
            {"role": "system", "content": "Topic?"},
            {"role": "user", "content": "turn 0"},
            {"role": "assistant", "content": "turn 1"},
            {"role": "user", "content": "turn 2"},
            {"role": "assistant", "content": "turn 3"},
        ],
    }


def test_what_is_no_dialogue_is_no_chat() -> None:
    unfit: list[Record] = [talk(3), talk(6, 1), talk(6, 3), Text("t", "s", "x"), Prompt("p", "s", [])]
    assert list(chats(unfit, PARAMS, seed=1)) == []


def test_without_an_opening_there_is_no_system_message() -> None:
    (row,) = chats([talk(4, opening=None)], PARAMS, seed=1)
    assert [m["role"] for m in row["messages"]] == ["user", "assistant", "user", "assistant"]


def test_an_article_becomes_a_question_named_by_its_kind() -> None:
    article = Article("w/Tomato", "w", "Tomato", "", None, "The tomato is a plant.")
    (row,) = chats([article], PARAMS, seed=1)
    assert row["id"] in ("w/Tomato#about", "w/Tomato#entity")
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
