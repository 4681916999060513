import random

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.app.serve.text import TextStream, bytes_of_tokens
from groundup.core.formats.control_tokens import control_tokens
from tests.open_tokenizers import FAMILIES, adopted


@pytest.fixture(scope="module")
def token_bytes(tiny_tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    return bytes_of_tokens(tiny_tokenizer)


def shown(stream: TextStream, pieces: list[bytes]) -> list[str]:
    return [*(stream.add(piece) for piece in pieces), stream.end()]


def test_a_stream_is_what_the_tokenizer_decodes(
    tiny_tokenizer: PreTrainedTokenizerFast, token_bytes: list[bytes]
) -> None:
    """Random tokens are mostly not UTF-8: what is broken must be shown as broken in the same places."""
    drawn = random.Random(0)
    for _ in range(300):
        tokens = drawn.choices(range(len(tiny_tokenizer)), k=12)
        text = "".join(shown(TextStream([]), [token_bytes[token] for token in tokens]))
        assert text == tiny_tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_of_an_open_models_tokens(family: str) -> None:
    """Bytes, pieces of SentencePiece and added tokens too; only the space in front, which decoding drops, stays."""
    tokenizer = adopted(family)
    found = bytes_of_tokens(tokenizer)
    assert {found[token] for token in control_tokens(tokenizer)} == {b""}
    text = "Do you like\n\nthe sea? \u6f22\u5b57 \U0001f9d1 <table>"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(shown(TextStream([]), [found[token] for token in ids])).removeprefix(" ") == text


def test_a_character_is_shown_once_it_is_whole() -> None:
    snowman = "\u2603".encode()
    assert shown(TextStream([]), [b"a", snowman[:1], snowman[1:2], snowman[2:] + b"b"]) == ["a", "", "", "\u2603b", ""]


def test_special_tokens_have_no_text(tiny_tokenizer: PreTrainedTokenizerFast, token_bytes: list[bytes]) -> None:
    assert {token_bytes[token] for token in tiny_tokenizer.all_special_ids} == {b""}


@pytest.mark.parametrize(
    ("stops", "pieces", "expected", "stopped"),
    [
        (["STOP"], [b"a ST", b"OP b"], ["a ", "", ""], True),
        (["STOP"], [b"a ST", b"ART"], ["a ", "START", ""], False),
        (["STOP"], [b"a ST"], ["a ", "ST"], False),
        (["ab", "b"], [b"xa", b"b"], ["x", "", ""], True),
        (["aab"], [b"aa", b"ab", b"c"], ["", "a", "", ""], True),
        (["\n"], [b"one\ntwo"], ["one", ""], True),
        (["\u2603"], [b"a", "\u2603".encode()[:2], "\u2603".encode()[2:]], ["a", "", "", ""], True),
    ],
)
def test_stop_strings(stops: list[str], pieces: list[bytes], expected: list[str], stopped: bool) -> None:
    stream = TextStream(stops)
    assert shown(stream, pieces) == expected
    assert stream.stopped is stopped
    assert stream.text == "".join(expected)
