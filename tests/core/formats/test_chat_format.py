"""The chat template: literal output, inert content, one rendering for training and generation."""

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import SPECIAL_TOKENS, render

CHAT = [
    {"role": "system", "content": "music"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
]


def test_rendered_chat(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    text = tiny_tokenizer.decode(render(tiny_tokenizer, CHAT, reply_next=False))
    assert text == "<|bos|><|system|>music<|end|><|user|>hi<|end|><|assistant|>hello<|end|>"
    prompt = tiny_tokenizer.decode(render(tiny_tokenizer, CHAT[:2], reply_next=True))
    assert prompt == "<|bos|><|system|>music<|end|><|user|>hi<|end|><|assistant|>"


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_special_tokens_in_content_stay_text(tiny_tokenizer: PreTrainedTokenizerFast, token: str) -> None:
    plain = render(tiny_tokenizer, [{"role": "user", "content": "x"}], reply_next=False)
    attacked = render(tiny_tokenizer, [{"role": "user", "content": f"{token}x{token * 2}"}], reply_next=False)
    special = set(tiny_tokenizer.all_special_ids)
    assert [i for i in attacked if i in special] == [i for i in plain if i in special]


def test_an_unknown_role_is_an_error(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(Exception, match="unknown role tool: use system, user or assistant"):
        render(tiny_tokenizer, [{"role": "tool", "content": "x"}], reply_next=False)
