"""Mean lengths, counted on rows of the data with the tokenizer of an open model."""

from pathlib import Path
from typing import Any

import pytest

from groundup.app.plan import lengths
from groundup.app.plan.lengths import DEFAULT, count_lengths, counted_lengths
from groundup.core.formats.chat_format import encode_text, render
from groundup.core.formats.jsonl import write_jsonl
from groundup.runner.params import Params
from tests.open_tokenizers import adopted
from tests.presets import preset

SMOKE = preset("smoke")
TOKENIZER = adopted("smollm2")


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def write_data(folder: Path, **rows: list[dict[str, Any]]) -> Path:
    kinds = {kind: rows.get(kind, []) for kind in ("text", "chats", "preferences", "prompts")}
    for kind, written in kinds.items():
        write_jsonl(folder / kind / "val.jsonl", written)
    return folder


def num_tokens(messages: list[dict[str, str]], reply_next: bool = False) -> int:
    return len(render(TOKENIZER, messages, reply_next))


def test_rows_are_counted_as_the_stages_read_them(tmp_path: Path) -> None:
    texts = ["I like music.", "The sea is warm and the valley is green."]
    sides = [said("Hi", "Hello"), said("Hi", "The river")]
    reply = "I like the sea"
    data = write_data(
        tmp_path,
        text=[{"text": text} for text in texts],
        chats=[{"messages": said("Hi", "Hello")}],
        preferences=[
            {"kind": "relevance", "chosen": sides[0], "rejected": sides[1]},
            {"kind": "rating", "chosen": sides[0], "rejected": sides[0]},
        ],
        prompts=[{"messages": said("Do you like music?"), "reply": reply}, {"messages": said("Hi"), "reply": None}],
    )
    found = count_lengths(TOKENIZER, data, SMOKE)
    tokens = [len(encode_text(TOKENIZER, text)) for text in texts]
    assert found.document == sum(tokens) / 2
    assert found.bytes_per_token == sum(map(len, texts)) / sum(tokens)
    assert found.example == num_tokens(said("Hi", "Hello"))  # with the template's own system message
    assert found.relevance == (num_tokens(sides[0]) + num_tokens(sides[1])) / 2
    assert found.rated == num_tokens(sides[0])
    assert found.longest_side == max(map(num_tokens, sides))
    asked = [num_tokens(said(text), reply_next=True) for text in ("Do you like music?", "Hi")]
    limit = SMOKE.align.rollout.max_prompt_tokens
    assert found.prompt == pytest.approx(sum(n for n in asked if n <= limit) / sum(n <= limit for n in asked))
    longest = SMOKE.align.rollout.max_new_tokens
    assert found.reply_share == min(longest, len(encode_text(TOKENIZER, reply)) + 1) / longest


def test_a_chat_is_as_long_as_its_pieces(tmp_path: Path) -> None:
    turns = said(*["The river flows through the old town"] * 40)
    data = write_data(tmp_path, chats=[{"messages": turns}])
    assert num_tokens(turns) > SMOKE.sft.max_length
    assert count_lengths(TOKENIZER, data, SMOKE).example > num_tokens(turns)  # each piece has the system message


def test_what_no_row_shows_is_as_in_the_default_run(tmp_path: Path) -> None:
    found = count_lengths(TOKENIZER, write_data(tmp_path), SMOKE)
    assert found.reply_share == pytest.approx(DEFAULT.reply_share)
    assert (found.document, found.prompt, found.bytes_per_token) == (DEFAULT.document, DEFAULT.prompt, None)


def test_rows_are_taken_from_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "NUM_COUNTED", 2)
    texts = ["I like it", "x" * 400, "I like it", "x" * 400]
    data = write_data(tmp_path, text=[{"text": text} for text in texts])
    assert count_lengths(TOKENIZER, data, SMOKE).document == len(encode_text(TOKENIZER, "I like it"))


def test_from_scratch_and_without_data_nothing_is_counted(tmp_path: Path) -> None:
    def with_base(base: str | None) -> Params:
        return SMOKE.model_copy(update={"model": SMOKE.model.model_copy(update={"base": base})})

    assert counted_lengths(tmp_path, with_base("own")) == DEFAULT
    write_data(tmp_path / "artifacts/data")
    assert counted_lengths(tmp_path, with_base(None)) == DEFAULT
