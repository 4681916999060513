"""Fit a conversation into the model's context."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import check_text, is_from_scratch, render
from groundup.core.formats.chat_template import common_length
from groundup.core.formats.records import Message


@dataclass(frozen=True)
class FittedPrompt:
    ids: list[int]  # ends on the assistant marker
    num_dropped: int  # messages left out, oldest first; the system message is kept as long as a turn fits
    cut: bool  # the last message alone was too long, so only its end is kept


def fit_prompt(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], max_tokens: int) -> FittedPrompt:
    """The prompt for a reply to `messages` in at most max_tokens; the oldest turns are dropped first, two at a time.

    Two at a time, since a conversation starts on a user turn: question and answer leave together. Our template puts
    bos first and then renders turn by turn, so the tokens of turns add up: from the end, each turn is rendered once.
    """
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a prompt ends on a user message: add one after the last reply")
    check_text(messages)
    first = 1 if messages[0]["role"] == "system" else 0
    if not is_from_scratch(tokenizer):
        return _fit_by_rendering(tokenizer, messages, first, max_tokens)
    bos = [tokenizer.bos_token_id]
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


def _fit_by_rendering(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], first: int, max_tokens: int
) -> FittedPrompt:
    """For templates that render a turn by what surrounds it. More and more turns are tried, so the work is bounded.

    first: the number of system messages, 0 or 1
    """
    starts = list(range(first, len(messages), 2))[::-1]
    last = messages[starts[0] :]

    @cache
    def prompt(num_pairs: int) -> list[int]:
        return render(tokenizer, [*messages[:first], *messages[starts[num_pairs - 1] :]], reply_next=True)

    kept = _largest(len(starts), lambda num_pairs: len(prompt(num_pairs)) <= max_tokens)
    if kept:
        return FittedPrompt(prompt(kept), starts[kept - 1] - first, cut=False)
    ids = render(tokenizer, last, reply_next=True)
    if len(ids) <= max_tokens:
        return FittedPrompt(ids, starts[0], cut=False)
    # keep what stands before the content, so that the model sees where a user turn starts
    head = common_length(*(render(tokenizer, [{"role": "user", "content": word}], reply_next=True) for word in "ab"))
    head = head if head < max_tokens else 0
    return FittedPrompt(ids[:head] + ids[len(ids) - max_tokens + head :], starts[0], cut=True)


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `limit` that fits, if all below it do; 0 if none. None above twice it is tried."""
    above = 1
    while above <= limit and fits(above):
        above *= 2
    numbers = range(above // 2 + 1, min(above, limit + 1))
    return above // 2 + bisect_left(numbers, True, key=lambda number: not fits(number))
