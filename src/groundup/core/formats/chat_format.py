"""The chat format: how every stage turns a chat into tokens.

    <|bos|><|system|>topic<|end|><|user|>question<|end|><|assistant|>reply<|end|>

Only the template writes special tokens: their opening `<|` is broken up in content, and raw text is encoded
with `encode_special_tokens`, so neither data nor users can produce one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.records import Message
from groundup.runner.files import restore

BOS, END, PAD = "<|bos|>", "<|end|>", "<|pad|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = [BOS, END, PAD, SYSTEM, USER, ASSISTANT]

# TRL trains what {% generation %} encloses, so the end-of-turn token must be inside.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% set content = m['content'] | replace('<|', '< |') %}"
    "{% if m['role'] == 'assistant' %}<|assistant|>{% generation %}{{ content }}<|end|>{% endgeneration %}"
    "{% elif m['role'] in ('system', 'user') %}<|{{ m['role'] }}|>{{ content }}<|end|>"
    "{% else %}{{ raise_exception('unknown role ' ~ m['role'] ~ ': use system, user or assistant') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def load_tokenizer(path: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a model directory."""
    if not Path(path, "tokenizer.json").is_file():
        raise ValueError(f"there is no tokenizer in {path}: tokenizer.json is missing. {restore(path)}")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    except Exception as error:  # the tokenizers library raises no narrower class
        raise ValueError(f"the tokenizer in {path} cannot be read ({error}). {restore(path)}") from None
    vocabulary = tokenizer.get_vocab()
    if lacking := [token for token in SPECIAL_TOKENS if token not in vocabulary]:
        raise ValueError(f"the tokenizer in {path} lacks {', '.join(lacking)}. {restore(path)}")
    return tokenizer


def render(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], reply_next: bool) -> list[int]:
    """Token ids of a chat; with `reply_next` they end on the assistant marker, ready for a reply."""
    check_text(messages)
    try:
        ids: Any = tokenizer.apply_chat_template(
            list(messages), tokenize=True, add_generation_prompt=reply_next, return_dict=False
        )
    except TemplateError as error:
        raise ValueError(f"a chat cannot be rendered: {error}") from None
    return list(ids)


def render_trained(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Token ids of a whole chat, and a 1 for each that is trained: the replies with their end-of-turn tokens."""
    check_text(messages)
    encoded = tokenizer.apply_chat_template(
        list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(encoded["input_ids"]), list(encoded["assistant_masks"])


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of raw text, without bos and end token; special-token strings in it are encoded as ordinary text."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def check_text(messages: Sequence[Message]) -> None:
    """ValueError naming the messages that no UTF-8 can hold; the tokenizer would only say TypeError."""
    problems = []
    for number, message in enumerate(messages, start=1):
        try:
            message["content"].encode("utf-8")
        except UnicodeEncodeError as error:
            problems.append(
                f"message {number} ({message['role']}) has half a surrogate pair, "
                f"{error.object[error.start]!a}, at character {error.start + 1}"
            )
    if problems:
        raise ValueError(f"not text: {'; '.join(problems)}; read the source with the encoding it was written in")
