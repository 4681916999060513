"""How the chat template of an open model turns messages into text: found out by rendering, not by names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.control_tokens import KEPT_TOKENIZERS, break_up
from groundup.core.formats.records import Message

# Words that no template writes itself.
TOPIC, QUESTION, ANSWER = "zebrafinch", "marmalade", "thunderstorm"
ASKED: list[Message] = [{"role": "user", "content": QUESTION}]
ANSWERED: list[Message] = [*ASKED, {"role": "assistant", "content": ANSWER}]
# Llama's template writes a date; with that of the day no run would give the same bytes on the next.
DATE = "26 Jul 2024"


@dataclass(frozen=True)
class TemplateTraits:
    takes_system: bool
    after_end: str  # what follows the end of turn of a chat's last reply, such as a line break


def traits(tokenizer: PreTrainedTokenizerFast) -> TemplateTraits:
    return _traits(tokenizer, tokenizer.chat_template, tokenizer.eos_token)


@lru_cache(maxsize=KEPT_TOKENIZERS)
def _traits(tokenizer: PreTrainedTokenizerFast, template: str, end: str) -> TemplateTraits:
    """The arguments after the first make a changed tokenizer another one."""
    try:
        takes_system = TOPIC in apply(tokenizer, [{"role": "system", "content": TOPIC}, *ASKED], reply_next=True)
    except ValueError:
        takes_system = False
    reply = apply(tokenizer, ANSWERED, reply_next=False).rpartition(ANSWER)[2]
    return TemplateTraits(takes_system, reply.partition(end)[2])


def apply(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], reply_next: bool) -> str:
    """The template's own text for these messages; ValueError if it raises an error."""
    try:
        text: Any = tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=reply_next,
            enable_thinking=False,  # of templates that can open a reply with thoughts, which no data here has
            date_string=DATE,
            strftime_now=None,  # a template that calls it raises an error
        )
    except TypeError as error:
        if "strftime_now" in str(tokenizer.chat_template):
            raise ValueError(
                "the chat template writes the date of the day, so prompts differ from day to day"
            ) from None
        raise ValueError(f"the chat template raises an error: {error}") from None
    except Exception as error:  # a template is a program: it can raise anything
        raise ValueError(f"the chat template raises an error: {error}") from None
    return str(text)


def chat_text(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], reply_next: bool) -> str:
    """The text of a chat, which ends with the end of turn if it ends with a reply.

    Contents lose white space at their ends, as most templates do it: some tokenizers merge a line break there with
    that of the template, so that a prompt were no prefix of the chat.
    """
    found = traits(tokenizer)
    plain = [{"role": m["role"], "content": break_up(tokenizer, m["content"].strip())} for m in messages]
    text = apply(tokenizer, plain if found.takes_system else without_system(plain), reply_next)
    if reply_next or messages[-1]["role"] != "assistant":
        return text
    if not text.endswith(f"{tokenizer.eos_token}{found.after_end}"):
        raise ValueError("the chat template does not end this reply with its end-of-turn token, as it ends others")
    return text.removesuffix(found.after_end)


def without_system(messages: Sequence[Message]) -> list[Message]:
    """For templates without a system role, such as Gemma's: the first user turn takes the message in."""
    system, rest = messages[:1], messages[1:]
    if not system or system[0]["role"] != "system":
        return list(messages)
    content = system[0]["content"]
    if rest and rest[0]["role"] == "user":
        return [{"role": "user", "content": f"{content}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": content}, *rest]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(first), len(second)))
