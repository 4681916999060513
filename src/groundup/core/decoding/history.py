"""Fit a conversation into the model's context."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import check_text, render
from groundup.core.formats.records import Message


@dataclass(frozen=True)
class FittedPrompt:
    ids: list[int]  # ends on the assistant marker
    num_dropped: int  # messages left out, oldest first; the system message is kept as long as a turn fits
    cut: bool  # the last message alone was too long, so only its end is kept


def fit_prompt(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], max_tokens: int) -> FittedPrompt:
    """The prompt for a reply to `messages` in at most max_tokens; the oldest turns are dropped first, two at a time.

    Two at a time, since a conversation starts on a user turn: question and answer leave together. The template puts
    bos first and then renders turn by turn, so the tokens of turns add up: from the end, each turn is rendered once.
    """
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a prompt ends on a user message: add one after the last reply")
    check_text(messages)
    bos = [tokenizer.bos_token_id]
    first = 1 if messages[0]["role"] == "system" else 0
    topic = render(tokenizer, messages[:first], reply_next=False) if first else bos
    start = len(messages) - (1 if (len(messages) - first) % 2 else 2)  # of the turns that are kept
    turns = render(tokenizer, messages[start:], reply_next=True)[1:]
    while start > first:
        older = render(tokenizer, messages[start - 2 : start], reply_next=False)[1:]
        if len(topic) + len(older) + len(turns) > max_tokens:
            break
        turns = older + turns
        start -= 2
    num_dropped = start - first
    if len(topic) + len(turns) > max_tokens:
        topic, num_dropped = bos, start
    ids = topic + turns
    cut = len(ids) > max_tokens
    if cut:
        # keep bos and the user marker, so that the model sees where a user turn starts
        ids = ids[:2] + ids[len(ids) - max_tokens + 2 :]
    return FittedPrompt(ids, num_dropped, cut)
