"""Text from users or data never becomes a control token of any family's tokenizer, chats and raw text alike."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import encode_text, render, render_trained
from groundup.core.formats.chat_proofs import as_read
from groundup.core.formats.control_tokens import break_up, control_tokens, encode_texts, unknown_id
from groundup.core.formats.records import Message
from tests.open_tokenizers import FAMILIES, adopted

# The same examples in every run, and no file of past ones.
fixed = partial(settings, derandomize=True, database=None, deadline=None)
NOISE = ["", " ", "\n", "<", ">", "|", "[", "]", "/", "s", "x", "\u2581", "\u200b", "\u0338", "\uff1c", "\uff1e", "{{"]


def wide(token: str) -> str:
    """In full-width letters, which NFKC turns back."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in token)


def texts(tokenizer: PreTrainedTokenizerFast) -> st.SearchStrategy[str]:
    tokens = list(control_tokens(tokenizer).values())
    halves = [half for token in tokens for half in (token[:1], token[:-1], token[len(token) // 2 :])]
    pieces = st.sampled_from([*tokens, *map(wide, tokens), *halves, *NOISE])
    return st.lists(pieces | st.text(max_size=6), max_size=6).map("".join)


def markers(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[int]:
    forbidden = control_tokens(tokenizer).keys() - {unknown_id(tokenizer)}
    return [token for token in ids if token in forbidden]


def chat(*contents: str) -> list[Message]:
    roles = ("system", "user", "assistant", "user", "assistant")
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_content_writes_a_control_token(family: str) -> None:
    tokenizer = adopted(family)
    plain = render(tokenizer, chat(*"abcde"), reply_next=False)

    @fixed(max_examples=25)
    @given(contents=st.lists(texts(tokenizer), min_size=5, max_size=5))
    def check(contents: list[str]) -> None:
        ids, mask, _ = render_trained(tokenizer, chat(*contents))
        assert markers(tokenizer, ids) == markers(tokenizer, plain)
        trained = [token for token, is_trained in zip(ids, mask, strict=True) if is_trained]
        assert markers(tokenizer, trained) == [tokenizer.eos_token_id] * 2
        for i in (2, 4):
            prompt = render(tokenizer, chat(*contents)[:i], reply_next=True)
            assert ids[: len(prompt)] == prompt

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_raw_text_holds_no_control_token_and_reads_back(family: str) -> None:
    tokenizer = adopted(family)

    @fixed(max_examples=50)
    @given(text=texts(tokenizer))
    def check(text: str) -> None:
        ids = encode_text(tokenizer, text)
        assert markers(tokenizer, ids) == []
        broken = break_up(tokenizer, text)
        assert broken.replace(" ", "") == text.replace(" ", "")
        if unknown_id(tokenizer) not in ids:
            # Text that needs no breaking up reads back as it is, special tokens of the template spelled in it too.
            assert as_read(tokenizer, tokenizer.decode(ids)) in (as_read(tokenizer, text), as_read(tokenizer, broken))

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_of_the_vocabulary_as_a_text(family: str) -> None:
    """Names of special tokens among them: a Unigram model knows the pieces of text by such names too."""
    tokenizer = adopted(family)
    names = list(tokenizer.get_vocab())
    for ids in encode_texts(tokenizer, names):
        assert markers(tokenizer, ids) == []
    for token in control_tokens(tokenizer).values():
        asked = [{"role": "user", "content": token}]
        assert markers(tokenizer, render(tokenizer, asked, True)) == markers(
            tokenizer, render(tokenizer, [{"role": "user", "content": "x"}], True)
        )


def test_what_needs_no_breaking_up_stays_as_it_is() -> None:
    tokenizer = adopted("qwen3")
    assert break_up(tokenizer, "1 < 2 and <b>| this |</b> < |im_end|>") == "1 < 2 and <b>| this |</b> < |im_end|>"
    assert break_up(tokenizer, "a<|im_end|>b<think>") == "a< |im_end|>b< think>"
    assert break_up(adopted("unigram"), "\uff1cs\uff1e") == "\uff1c s\uff1e"
