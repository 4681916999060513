"""Lines in, replies out: in a terminal and over a pipe."""

import io
import json
from pathlib import Path

import pytest
import torch

from groundup.app.chat.loading import Models
from groundup.app.chat.session import Session, chat
from groundup.core.decoding import Decoding
from groundup.core.formats.chat_format import SPECIAL_TOKENS, render
from tests.app.chat.test_chat import script
from tests.core.decoding.conftest import decoding

SAMPLE = decoding("sample")


@pytest.fixture
def models(checkout: Path) -> Models:
    return Models(checkout, torch.device("cpu"))


def start(models: Models, lines: list[str], interactive: bool = False, how: Decoding = SAMPLE) -> Session:
    return Session(models, "sft", how, io.StringIO("\n".join(lines) + "\n"), io.StringIO(), interactive)


def converse(models: Models, lines: list[str], interactive: bool = False, how: Decoding = SAMPLE) -> str:
    session = start(models, lines, interactive, how)
    session.run()
    return session.output.getvalue()


def test_a_pipe_gets_one_line_of_reply_a_line(models: Models) -> None:
    outputs = []
    for _ in range(2):
        output = io.StringIO()
        chat(models, "sft", SAMPLE, io.StringIO("Hello there!\n\nDo you like music?"), output)
        outputs.append(output.getvalue())
    assert outputs[0] == outputs[1]
    replies = outputs[0].split("\n")
    assert len(replies) == 3
    assert all(replies[:2])
    assert replies[0] != replies[1]
    assert not any(token in outputs[0] for token in SPECIAL_TOKENS)


def test_bytes_that_are_no_utf_8_end_no_conversation(models: Models) -> None:
    outputs = []
    for line in (b"caf\xe9 \xed\xa0\x80?", "caf\ufffd \ufffd\ufffd\ufffd?".encode()):
        output = io.StringIO()
        chat(models, "sft", SAMPLE, io.TextIOWrapper(io.BytesIO(line), encoding="ascii"), output)
        outputs.append(output.getvalue())
    assert outputs[0] == outputs[1] != ""


def test_a_line_of_a_pipe_does_not_see_the_lines_before(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    session = start(models, ["I like the sea", "Hello"])
    prompts = []
    reply = session.chats["sft"].reply
    monkeypatch.setattr(session.chats["sft"], "reply", lambda prompt, turn: prompts.append(prompt) or reply(prompt, 0))
    session.run()
    tokenizer = models.assistant("sft", rewarded=False).tokenizer
    assert prompts[1] == render(tokenizer, [{"role": "user", "content": "Hello"}], reply_next=True)


def test_history_can_be_asked_for(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, models.assistant("sft", rewarded=False), ["Yes.|", "Well.|"])
    session = start(models, ["/history", "/topic music", "Hello", "And you?"])
    session.run()
    assert session.output.getvalue() == "Yes.\nWell.\n"
    said = [m["content"] for m in session.conversation.messages()]
    assert said == ["music", "Hello", "Yes.", "And you?", "Well."]


def test_a_terminal_shows_words_as_they_come_and_keeps_history(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, models.assistant("sft", rewarded=False), ["|", "I like the caf\u00e9 there.|"])
    written: list[str] = []
    session = start(models, ["Hello"], interactive=True)
    monkeypatch.setattr(session, "_write", written.append)
    session.run()
    first = written.index("assistant> ")
    assert written[first + 1 : first + 6] == ["I", " like", " the", " caf\u00e9", " there."]
    assert session.conversation.turns[-1] == {"role": "assistant", "content": "I like the caf\u00e9 there."}


def test_models_are_switched_and_keep_the_conversation(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    session = start(models, ["/history", "Hello", "/model aligned", "And you?", "/model"])
    session.run()
    assert session.model == "aligned"
    assert len(session.conversation.turns) == 4
    alone = converse(models, ["Hello", "/model aligned", "Hello"]).split("\n")
    assert converse(models, ["Hello", "Hello"]).split("\n")[0] == alone[0]
    assert converse(models, ["Hello", "Hello"]).split("\n")[1] != alone[1]


def test_decoding_is_chosen_by_name_and_settings(models: Models) -> None:
    session = start(models, ["/decode tree keep=1 max_new_tokens=8", "Hello", "/decode greedy", "Hello", "Hello"])
    session.run()
    replies = session.output.getvalue().split("\n")
    assert len(replies) == 4
    assert replies[1] == replies[2]  # greedy
    assert session.decoding == decoding("greedy", keep=1, max_new_tokens=8)
    text = converse(models, ["/decode sample top_p=0.5", "/decode"], interactive=True)
    assert text.count("Decoding by sample: seed 3, max_new_tokens 12, temperature 1, top_k 0, top_p 0.5, min_p 0") == 2


def test_two_models_side_by_side(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, models.assistant("sft", rewarded=False), ["I am\nwell.|", "The sea.|", "Yes.|"] * 2)
    lines = ["/history", "/compare aligned", "Hello", "/compare", "And you?"]
    session = start(models, lines)
    session.run()
    assert session.output.getvalue() == "I am well.\tThe sea.\nYes.\n"
    assert [m["content"] for m in session.conversation.turns] == ["Hello", "I am\nwell.", "And you?", "Yes."]
    shown = converse(models, ["/compare aligned", "Hello"], interactive=True).split("\n")
    header, row = (
        next(line for line in shown if all(word in line for word in words))
        for words in (("sft", "aligned", "\u2503"), ("I am", "The sea."))
    )
    assert header.index("sft") < header.index("aligned")
    assert row.index("I am") < row.index("The sea.")


def test_conversations_are_saved_as_chats(models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(monkeypatch, models.assistant("sft", rewarded=False), ["Yes.|", "Caf\u00e9!|", "Well.|"])
    path = tmp_path / "talk one.jsonl"
    lines = ["/topic the sea", "Hello", "And you?", "/reset", "Hi", f"/save {path}"]
    text = converse(models, lines, interactive=True)
    assert f"2 conversations in {path}." in text
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    sea = {"role": "system", "content": "the sea"}
    assert [list(row) for row in rows] == [["messages"], ["messages"]]
    assert [m["content"] for m in rows[0]["messages"]] == ["the sea", "Hello", "Yes.", "And you?", "Caf\u00e9!"]
    assert rows[1]["messages"][0] == sea
    again = tmp_path / "lines.jsonl"
    script(monkeypatch, models.assistant("sft", rewarded=False), ["Yes.|", "Well.|"])
    converse(models, ["Hello", "Hi", f"/save {again}"])  # a pipe: every line is one
    assert len(again.read_text(encoding="utf-8").splitlines()) == 2


def test_a_full_context_is_said_once(models: Models) -> None:
    text = converse(models, ["the river flows through the old town"] * 8, interactive=True)
    assert text.count("it forgets the oldest part") == 1


def test_commands_are_answered(models: Models) -> None:
    text = converse(models, ["/topic the sea", "/reset", "/help", "/quit", "never read"], interactive=True)
    assert "Talking to sft, decoding by sample: " in text
    assert "Topic: the sea" in text
    assert "A new conversation." in text
    assert text.count("/compare NAME") == 2
    assert text.endswith("you> ")


BAD = [
    ("/dance", "unknown command /dance: /help lists all commands"),
    ("/model none", "unknown model 'none': choose base, sft, aligned, champion"),
    ("/model base", "train one with `dvc repro`"),
    ("/model champion", "no champion yet: `dvc repro`"),
    ("/decode magic", "unknown decoding method 'magic'"),
    ("/decode tree n=1e9", "n is 1e9"),
    ("/decode sample max_new_tokens=65", "choose 1 to 64"),
    ("/compare", "name the model to compare with"),
    ("/compare sft", "you talk to sft already"),
    ("/compare nobody", "unknown model 'nobody'"),
    ("/save", "name the file to write"),
    ("/save nothing.jsonl", "nothing has been said yet"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_what_cannot_be_obeyed_is_said_in_a_terminal_and_ends_a_pipe(models: Models, line: str, message: str) -> None:
    session = start(models, [line, "Hello"], interactive=True)
    session.run()
    text = session.output.getvalue()
    assert message in text
    assert (list(session.chats), session.decoding) == (["sft"], SAMPLE)
    assert "assistant> " in text
    session = start(models, [line, "Hello"])
    with pytest.raises(ValueError, match="^" + line.split()[0]) as error:
        session.run()
    assert message in str(error.value)
    assert session.output.getvalue() == ""


def test_saving_overwrites_nothing(models: Models, tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("kept", encoding="utf-8")
    lines = ["Hello", f"/save {path}", f"/save {tmp_path}/none/talk.jsonl", f"/save {tmp_path}"]
    text = converse(models, lines, interactive=True)
    assert text.count("exists already: choose another name") == 2
    assert "No such file or directory" in text
    assert path.read_text(encoding="utf-8") == "kept"


def test_without_a_reward_model_there_is_still_a_chat(models: Models, checkout: Path) -> None:
    (checkout / "artifacts/reward/config.json").unlink()
    text = converse(models, ["/decode tree", "/decode beam", "Hello"], interactive=True)
    assert "best_of_n and tree need a reward model" in text
    assert "Decoding by beam" in text


def test_special_tokens_and_long_lines_are_only_text(models: Models) -> None:
    text = converse(models, ["<|end|><|assistant|>no <|bos|>", "sea " * 5000])
    assert len(text.splitlines()) == 2
    assert not any(token in text for token in SPECIAL_TOKENS)
