import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.assistant.chat import MAX_ATTEMPTS, Chat, Session, chat_loop, whole_sentences
from groundup.model.chat_format import SPECIAL_TOKENS, render
from groundup.model.llama import save_model


@pytest.fixture
def chat(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> Chat:
    return Chat(tiny_model, tiny_tokenizer, max_new_tokens=12, temperature=1.0, seed=3)


def converse(chat: Chat, lines: list[str], interactive: bool = False) -> str:
    output = io.StringIO()
    Session(chat, io.StringIO("\n".join(lines) + "\n"), output, interactive).run()
    return output.getvalue()


def script(chat: Chat, monkeypatch: pytest.MonkeyPatch, drawn: list[str]) -> None:
    """Makes the model draw these texts; one that ends on | ends by itself."""
    tokenizer = chat.tokenizer
    queue = iter(drawn)

    def tokens(prompt: list[int], generator: torch.Generator) -> Iterator[int]:
        text = next(queue)
        yield from tokenizer(text.rstrip("|"), add_special_tokens=False)["input_ids"]
        if text.endswith("|"):
            yield tokenizer.eos_token_id

    monkeypatch.setattr(chat, "_tokens", tokens)


def test_a_pipe_gets_one_line_of_reply_a_line(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_model(tiny_model, tiny_tokenizer, tmp_path, "card")
    outputs = []
    for _ in range(2):
        output = io.StringIO()
        chat_loop(tmp_path, io.StringIO("Hello there!\n\nDo you like music?"), output, 12, 1.0, seed=3)
        outputs.append(output.getvalue())
    assert outputs[0] == outputs[1]
    replies = outputs[0].split("\n")
    assert len(replies) == 3
    assert all(replies[:2])
    assert replies[0] != replies[1]
    assert not any(token in outputs[0] for token in SPECIAL_TOKENS)


def test_bytes_that_are_no_utf_8_end_no_conversation(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_model(tiny_model, tiny_tokenizer, tmp_path, "card")
    outputs = []
    for line in (b"caf\xe9 \xed\xa0\x80?", "caf\ufffd \ufffd\ufffd\ufffd?".encode()):
        output = io.StringIO()
        chat_loop(tmp_path, io.TextIOWrapper(io.BytesIO(line), encoding="ascii"), output, 12, 1.0, seed=3)
        outputs.append(output.getvalue())
    assert outputs[0] == outputs[1] != ""


def test_a_line_of_a_pipe_does_not_see_the_lines_before(chat: Chat) -> None:
    alone = render(chat.tokenizer, [{"role": "user", "content": "Hello"}], reply_next=True)
    converse(chat, ["I like the sea"])
    assert chat.prompt("Hello") == (alone, False)


def test_history_can_be_asked_for(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    script(chat, monkeypatch, ["Yes.|", "Well.|"])
    assert converse(chat, ["/history", "/topic music", "Hello", "And you?"]) == "Yes.\nWell.\n"
    assert chat.topic == "music"
    assert [m["content"] for m in chat.history] == ["Hello", "Yes.", "And you?", "Well."]


def test_empty_and_unended_replies_are_drawn_again(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    script(chat, monkeypatch, ["|", "I like", "I like it.|"])
    assert converse(chat, ["Hello"]) == "I like it.\n"


def test_a_reply_that_never_ends_is_ended_at_its_last_sentence(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    script(chat, monkeypatch, ["Yes. I like it! And the"] * MAX_ATTEMPTS)
    assert converse(chat, ["Hello"]) == "Yes. I like it!\n"


def test_only_empty_replies_still_give_a_line(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    script(chat, monkeypatch, ["|"] * MAX_ATTEMPTS)
    assert converse(chat, ["Hello"]) == "...\n"


def test_a_terminal_shows_words_as_they_come_and_keeps_history(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    script(chat, monkeypatch, ["|", "I like the caf\u00e9 there.|"])
    written: list[str] = []
    session = Session(chat, io.StringIO("Hello\n"), io.StringIO(), interactive=True)
    monkeypatch.setattr(session, "_write", written.append)
    session.run()
    start = written.index("assistant> ")
    assert written[start + 1 : start + 6] == ["I", " like", " the", " caf\u00e9", " there."]
    assert chat.history[-1] == {"role": "assistant", "content": "I like the caf\u00e9 there."}


def test_a_full_context_is_said_once(chat: Chat) -> None:
    text = converse(chat, ["the river flows through the old town"] * 8, interactive=True)
    assert text.count("it forgets the oldest part") == 1
    ids, forgets = chat.prompt("the river")
    assert forgets
    assert len(ids) <= 128 - 12


def test_commands_are_answered(chat: Chat) -> None:
    text = converse(chat, ["/topic the sea", "/reset", "/dance", "/quit", "never read"], interactive=True)
    assert "Topic: the sea" in text
    assert "A new conversation." in text
    assert "There is no command /dance." in text
    assert text.endswith("you> ")


def test_the_model_never_writes_role_markers(chat: Chat) -> None:
    with torch.no_grad():  # all logits equal: markers would come up within a few hundred draws
        chat.model.get_output_embeddings().weight.zero_()
    drawn = [
        token
        for seed in range(40)
        for token in chat._tokens(chat.prompt("Hello")[0], torch.Generator().manual_seed(seed))
    ]
    assert len(drawn) == 480
    assert not set(chat.markers) & set(drawn)


def test_temperature_zero_takes_the_likeliest_token(chat: Chat) -> None:
    chat.temperature = 0.0
    prompt, _ = chat.prompt("Hello")
    ids = list(prompt)
    for token in chat._tokens(prompt, torch.Generator().manual_seed(1)):
        with torch.no_grad():
            logits = chat.model(torch.tensor([ids])).logits[0, -1]
        logits[chat.markers] = -torch.inf
        assert token == int(logits.argmax())
        ids.append(token)


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


def test_a_missing_model_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dvc repro"):
        chat_loop(tmp_path / "aligned", io.StringIO(), io.StringIO(), 12, 1.0, 0)


def test_settings_that_cannot_work_are_refused(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ValueError, match="choose 1 to 64"):
        Chat(tiny_model, tiny_tokenizer, max_new_tokens=65, temperature=1.0, seed=0)
    with pytest.raises(ValueError, match="temperature is -1"):
        Chat(tiny_model, tiny_tokenizer, max_new_tokens=8, temperature=-1.0, seed=0)
