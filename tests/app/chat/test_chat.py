"""One model's side of a conversation."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from groundup.app.chat.chat import MAX_ATTEMPTS, Chat, Conversation, whole_sentences
from groundup.core.decoding import reply_to_prompt
from groundup.core.decoding.assistant import Assistant
from tests.core.decoding.conftest import KnownScorer, decoding, no_std

HELLO = [{"role": "user", "content": "Hello"}]


def script(monkeypatch: pytest.MonkeyPatch, assistant: Assistant, drawn: list[str]) -> list[int]:
    """Make models reply with these texts (| at the end: it ended by itself); returns the seeds of the calls."""
    queue = iter(drawn)
    seeds: list[int] = []

    def stream(_: Any, prompt: list[int], decoding: Any) -> Iterator[int]:
        seeds.append(decoding.seed)
        text = next(queue)
        yield from assistant.tokenizer(text.rstrip("|"), add_special_tokens=False)["input_ids"]
        if text.endswith("|"):
            yield assistant.tokenizer.eos_token_id

    monkeypatch.setattr("groundup.app.chat.chat.stream", stream)
    return seeds


def say(chat: Chat, turn: int = 0) -> str:
    return chat.reply(chat.prompt(HELLO)[0], turn)


def test_empty_and_unended_replies_are_drawn_again(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = script(monkeypatch, assistant, ["|", "I like", "I like it.|"])
    assert say(Chat(assistant, decoding("sample"))) == "I like it."
    assert seeds == [3, 4, 5]


def test_no_two_turns_share_a_seed(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = script(monkeypatch, assistant, ["|"] * 3 * MAX_ATTEMPTS)
    for turn in range(3):
        assert say(Chat(assistant, decoding("sample")), turn) == "..."
    assert len(set(seeds)) == 3 * MAX_ATTEMPTS


def test_a_reply_that_never_ends_is_ended_at_its_last_sentence(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, assistant, ["Yes. I like it! And the"] * MAX_ATTEMPTS)
    assert say(Chat(assistant, decoding("sample"))) == "Yes. I like it!"


def test_words_come_as_they_are_made(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat(assistant, decoding("sample"))
    script(monkeypatch, assistant, ["I like the caf\u00e9 there.|"])
    words = list(chat.words([1], 0, 0))
    assert words == ["I", " like", " the", " caf\u00e9", " there."]
    assert chat.ended


def test_searching_methods_speak_in_one_piece(assistant: Assistant) -> None:
    scored = Assistant(assistant.model, assistant.tokenizer, KnownScorer(len, no_std))
    for method in ("beam", "best_of_n", "tree"):
        chat = Chat(scored, decoding(method))
        prompt, _ = chat.prompt(HELLO)
        expected = reply_to_prompt(scored, prompt, decoding(method))
        assert list(chat.words(prompt, 0, 0)) == [expected.text]
        assert chat.ended == (expected.finish_reason == "stop")


def test_the_model_never_writes_role_markers(assistant: Assistant) -> None:
    with torch.no_grad():  # all logits equal: markers would come up within a few hundred draws
        assistant.model.lm_head.weight.zero_()
    assistant.model.generation_config.suppress_tokens = [290, 291]
    replies = [reply_to_prompt(assistant, [7, 8], decoding("sample", seed=seed)).token_ids for seed in range(40)]
    drawn = {token for reply in replies for token in reply}
    assert len(drawn) > 150
    assert not drawn & {290, 291}


def test_a_conversation_is_a_topic_and_turns() -> None:
    conversation = Conversation()
    assert conversation.asked("Hello") == HELLO
    conversation.topic = "the sea"
    conversation.add("Hello", "Hi.")
    assert conversation.messages() == [
        {"role": "system", "content": "the sea"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Thr", "One. Two!"),
        ('He said "yes." And', 'He said "yes."'),
        ("It costs 3.5 of", "It costs 3.5 of ..."),
        ("no end", "no end ..."),
        ("", "..."),
    ],
)
def test_whole_sentences(text: str, expected: str) -> None:
    assert whole_sentences(text) == expected


def test_settings_that_leave_no_room_are_refused(assistant: Assistant) -> None:
    with pytest.raises(ValueError, match="choose 1 to 64"):
        Chat(assistant, decoding("sample", max_new_tokens=65))
