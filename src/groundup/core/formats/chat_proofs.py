"""Proofs that a chat template suits training and generation, on made-up dialogues."""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import CHAT_TEMPLATE, render
from groundup.core.formats.chat_template import ANSWER, QUESTION, TOPIC
from groundup.core.formats.control_tokens import break_up, control_tokens, unknown_id
from groundup.core.formats.records import Message

SHAPES = ("sua", "ua", "suaua", "uaua")  # the roles of a dialogue, by their first letters
ROLES = {"s": "system", "u": "user", "a": "assistant"}
WORDS = {"system": TOPIC, "user": QUESTION, "assistant": ANSWER}
ODD_CONTENTS = (
    "",
    " two  spaces ",
    "\nline\n\nbreaks,\r\nand a\ttab\n",
    "{{ bos_token }}{% raw %}{# #}",
    "<|<<s>|>> ]]",
    "\u00c9\u00f1 \u6f22\u5b57 \U0001f9d1\u200d\U0001f680 \ufb01ne",
    "\uff1cs\uff1e\uff1c\uff5cend\uff5c\uff1e",
)


def problems_of(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """What would train or serve something else than meant, each with one example; empty if all is proved.

    The tokenizer is one as adopted: its eos_token is the end of turn.
    """
    found: dict[str, str] = {}  # by kind, the first
    for kind, sentence in _failures(tokenizer):
        found.setdefault(kind, sentence)
    return list(found.values())


def dialogues() -> list[list[Message]]:
    return [[{"role": ROLES[role], "content": WORDS[ROLES[role]]} for role in shape] for shape in SHAPES]


def hostile_contents(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Texts that spell every control token: whole, in a row, and in the middle of itself."""
    tokens = list(control_tokens(tokenizer).values())
    middle = [token[: len(token) // 2] + token + token[len(token) // 2 :] for token in tokens]
    return ["".join(tokens), " x ".join(tokens), "".join(middle)]


def _failures(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[str, str]]:
    contents = [*ODD_CONTENTS, *hostile_contents(tokenizer)]
    for plain in dialogues():
        odd = [[{"role": m["role"], "content": content} for m in plain] for content in contents]
        try:
            expected = _markers(tokenizer, render(tokenizer, plain, reply_next=False))
            for messages in (plain, *odd):
                ids = render(tokenizer, messages, reply_next=False)
                # A template may leave out a turn that says nothing.
                if messages[-1]["content"] and _markers(tokenizer, ids) != expected:
                    yield "markers", f"contents of {_shown(messages)} change the markers that stand in the chat"
                if tokenizer.pad_token_id in ids:
                    yield "padding", f"the padding token {tokenizer.pad_token} stands in a chat"
                yield from _reply_failures(tokenizer, messages, ids)
        except ValueError as error:
            yield "error", f"a chat of {', '.join(m['role'] for m in plain)} cannot be rendered: {error}"


def _reply_failures(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], whole: Sequence[int]
) -> Iterator[tuple[str, str]]:
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render(tokenizer, messages[:i], reply_next=True)
        chat = render(tokenizer, messages[: i + 1], reply_next=False)
        reply = chat[len(prompt) :]
        if chat[: len(prompt)] != prompt:
            yield (
                "prompt",
                f"the prompt of a reply is not the start of the chat with that reply (contents {_shown(messages)}), "
                "so training and generation would see different tokens",
            )
        elif reply.count(tokenizer.eos_token_id) != 1:
            yield "end", f"a reply does not end with {tokenizer.eos_token} only (contents {_shown(messages)})"
        elif unknown_id(tokenizer) not in reply and (
            as_read(tokenizer, text := tokenizer.decode(reply[:-1])) != as_read(tokenizer, _said(tokenizer, message))
        ):
            yield "reply", f"the template writes {text!a} where the reply is {message['content']!a}"
        if whole[: len(chat)] != chat:
            yield (
                "later",
                f"a turn is rendered otherwise once the chat continues (contents {_shown(messages)}), so what a model "
                "is trained on is not what it will see",
            )


def as_read(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """The text after the model's own normalization, without white space at its ends."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    text = text if normalizer is None else normalizer.normalize_str(text)
    return text.replace("\u2581", " ").strip()  # SentencePiece's sign for a space


def _said(tokenizer: PreTrainedTokenizerFast, message: Message) -> str:
    text = break_up(tokenizer, message["content"].strip())
    return text.replace("<|", "< |") if tokenizer.chat_template == CHAT_TEMPLATE else text


def _markers(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> list[int]:
    markers = control_tokens(tokenizer).keys() - {unknown_id(tokenizer)}
    return [token for token in ids if token in markers]


def _shown(messages: Sequence[Message]) -> str:
    return ascii(messages[-1]["content"][:40])
