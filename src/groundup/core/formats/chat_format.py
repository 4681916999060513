"""The chat format: how every stage turns a chat into tokens.

    <|bos|><|system|>topic<|end|><|user|>question<|end|><|assistant|>reply<|end|>

Only the template writes special tokens: their opening `<|` is broken up in content, and raw text is encoded
with `encode_special_tokens`, so neither data nor users can produce one. An open model has a tokenizer and a template
of its own, behind the same functions: chat_template.py renders it, adopted.py makes it ready.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_template import ANSWERED, ASKED, chat_text, common_length
from groundup.core.formats.control_tokens import KEPT_TOKENIZERS, control_tokens, encode_texts
from groundup.core.formats.records import Message
from groundup.runner.files import restore

BOS, END, PAD = "<|bos|>", "<|end|>", "<|pad|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = [BOS, END, PAD, SYSTEM, USER, ASSISTANT]
TEMPLATE_TOKENS = [END, SYSTEM, USER, ASSISTANT]  # those that the template spells itself
# Between documents of pretraining, by the names that open models give it.
TEXT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")

# TRL trains what {% generation %} encloses, so the end-of-turn token must be inside.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% set content = m['content'] | replace('<|', '< |') %}"
    "{% if m['role'] == 'assistant' %}<|assistant|>{% generation %}{{ content }}<|end|>{% endgeneration %}"
    "{% elif m['role'] in ('system', 'user') %}<|{{ m['role'] }}|>{{ content }}<|end|>"
    "{% else %}{{ raise_exception('unknown role ' ~ m['role'] ~ ': use system, user or assistant') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def is_from_scratch(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer is one that groundup trained, not that of an open model, whatever names its tokens have.

    Only this template breaks up contents and marks what is trained by itself, which the fast paths rely on.
    """
    return tokenizer.chat_template == CHAT_TEMPLATE and tokenizer.bos_token == BOS


def load_tokenizer(path: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a model directory."""
    if not Path(path, "tokenizer.json").is_file():
        raise ValueError(f"there is no tokenizer in {path}: tokenizer.json is missing. {restore(path)}")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    except Exception as error:  # the tokenizers library raises no narrower class
        raise ValueError(f"the tokenizer in {path} cannot be read ({error}). {restore(path)}") from None
    named = {"an end of turn": tokenizer.eos_token, "padding": tokenizer.pad_token}
    lacking = [f"a token for {what}" for what, token in named.items() if token is None]
    if tokenizer.chat_template is None:
        lacking.append("a chat template")
    elif tokenizer.chat_template == CHAT_TEMPLATE:
        vocabulary = tokenizer.get_vocab()
        wanted = SPECIAL_TOKENS if is_from_scratch(tokenizer) else TEMPLATE_TOKENS
        lacking += [token for token in wanted if token not in vocabulary]
    if lacking:
        raise ValueError(f"the tokenizer in {path} lacks {', '.join(lacking)}. {restore(path)}")
    return tokenizer


def render(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], reply_next: bool) -> list[int]:
    """Token ids of a chat: ready for a reply with `reply_next`, else up to the end of turn of a last reply."""
    check_text(messages)
    if not is_from_scratch(tokenizer):
        text = chat_text(tokenizer, messages, reply_next)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    try:
        ids: Any = tokenizer.apply_chat_template(
            list(messages), tokenize=True, add_generation_prompt=reply_next, return_dict=False
        )
    except TemplateError as error:
        raise ValueError(f"a chat cannot be rendered: {error}") from None
    return list(ids)


def render_prompts(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[list[int]]:
    """Token ids of the prompt of each reply, but of one that opens the chat."""
    return [
        render(tokenizer, messages[:i], reply_next=True)
        for i, message in enumerate(messages)
        if i and message["role"] == "assistant"
    ]


def render_trained(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]
) -> tuple[list[int], list[int], bool]:
    """Token ids of a whole chat, and a 1 for each that is trained: the replies with their end-of-turn tokens.

    The last value tells whether the prompt of every reply is a prefix of the chat.
    """
    check_text(messages)
    prompts = render_prompts(tokenizer, messages)
    if is_from_scratch(tokenizer):
        encoded = tokenizer.apply_chat_template(
            list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = list(encoded["input_ids"]), list(encoded["assistant_masks"])
    else:
        ids = render(tokenizer, messages, reply_next=False)
        mask = mask_behind(ids, prompts, tokenizer.eos_token_id)
    return ids, mask, all(ids[: len(prompt)] == prompt for prompt in prompts)


def mask_behind(ids: Sequence[int], prompts: Iterable[Sequence[int]], end_id: int) -> list[int]:
    """The mask of a chat without marks in its template: a reply is what follows its prompt, up to the end of turn."""
    mask = [0] * len(ids)
    for start in map(len, prompts):
        end = ids.index(end_id, start) + 1
        mask[start:end] = [1] * (end - start)
    return mask


def reply_start(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """What a prompt ends with, ready for a reply: ids of the assistant's marker."""
    prompt = render(tokenizer, ASKED, reply_next=True)
    return prompt[common_length(prompt, render(tokenizer, ASKED, reply_next=False)) :]


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of raw text, without start and end; control tokens in it are encoded as ordinary text."""
    return encode_texts(tokenizer, [text])[0]


def document_ends(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    """Ids of the tokens before and behind a document.

    Before it stands the model's bos, unless the template marks turns with it, as SmolLM2's does with <|im_start|>.
    Such models, and those without bos, were pretrained with their end of text between documents. Behind it stands
    the end of text, not the end of turn, where a model has both.
    """
    return _document_ends(tokenizer, tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token)


# The arguments after the first make a changed tokenizer another one.
@lru_cache(maxsize=KEPT_TOKENIZERS)
def _document_ends(
    tokenizer: PreTrainedTokenizerFast, template: str | None, bos: str | None, end: str
) -> tuple[int, int]:
    special = {token: token_id for token_id, token in control_tokens(tokenizer).items()}
    text_end = next((special[token] for token in TEXT_ENDS if token in special), tokenizer.eos_token_id)
    is_start = bos is not None and (
        template is None or render(tokenizer, ANSWERED, reply_next=False).count(tokenizer.bos_token_id) <= 1
    )
    return tokenizer.bos_token_id if is_start else text_end, text_end


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
