"""Fit a conversation into the model's context."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.formats.records import Message


@dataclass(frozen=True)
class FittedPrompt:
    ids: list[int]  # ends on the assistant marker
    num_dropped: int  # messages left out, oldest first; the system message is kept as long as a turn fits
    cut: bool  # the last message alone was too long, so only its end is kept


def fit_prompt(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], max_tokens: int) -> FittedPrompt:
    """The prompt for a reply to `messages` in at most max_tokens; the oldest turns are dropped first, two at a time.

    Two at a time, so that question and answer go together and the conversation still starts on a user turn.
    """
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a prompt ends on a user message: add one after the last reply")
    first = 1 if messages[0]["role"] == "system" else 0
    topic, turns = list(messages[:first]), list(messages[first:])
    ids = render(tokenizer, topic + turns, reply_next=True)
    while len(ids) > max_tokens and len(turns) > 2:
        turns = turns[2:]
        ids = render(tokenizer, topic + turns, reply_next=True)
    if len(ids) > max_tokens and topic:
        topic = []
        ids = render(tokenizer, turns, reply_next=True)
    cut = len(ids) > max_tokens
    if cut:
        # keep bos and the user marker, so that the model sees where a user turn starts
        ids = ids[:2] + ids[len(ids) - max_tokens + 2 :]
    return FittedPrompt(ids, len(messages) - len(topic) - len(turns), cut)
