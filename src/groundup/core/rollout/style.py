"""How replies read: how many greet, ask, echo the user or repeat something. STYLE is the only list of measures."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean

from groundup.core.formats.records import Message
from groundup.core.rollout.prompts import Prompt

WORD = re.compile(r"[\w'\u2019-]*\w")  # with the apostrophes and hyphens inside it
GREETINGS = {
    *("hello", "hi", "hey", "hiya", "howdy", "greetings", "welcome"),
    *("good morning", "good afternoon", "good evening", "good day"),
}


def greets(messages: Sequence[Message], reply: str) -> bool:
    """The first word, or the first two, are a greeting."""
    first = words(reply)[:2]
    return bool(first) and (first[0] in GREETINGS or " ".join(first) in GREETINGS)


def asks(messages: Sequence[Message], reply: str) -> bool:
    """There is a question mark."""
    return "?" in reply


def echoes(messages: Sequence[Message], reply: str) -> bool:
    """More than half of the reply's words stand in the last message before it."""
    said, own = set(words(messages[-1]["content"])), words(reply)
    return 2 * sum(word in said for word in own) > len(own)


def repeats(messages: Sequence[Message], reply: str) -> bool:
    """The reply has the words of an earlier message, or the same three words in a row twice."""
    own = words(reply)
    trigrams = list(pairwise(pairwise(own)))
    return len(set(trigrams)) < len(trigrams) or (
        bool(own) and any(words(message["content"]) == own for message in messages)
    )


STYLE: dict[str, Callable[[Sequence[Message], str], bool]] = {
    "greeting_rate": greets,
    "question_rate": asks,
    "echo_rate": echoes,
    "repeat_rate": repeats,
}


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def style(prompts: Sequence[Prompt], replies: Sequence[str]) -> dict[str, list[float]]:
    """For each measure, 1 or 0 for each reply: the mean is the share."""
    pairs = [(prompt.messages, reply) for prompt, reply in zip(prompts, replies, strict=True)]
    return {name: [float(measure(*pair)) for pair in pairs] for name, measure in STYLE.items()}


def style_rates(prompts: Sequence[Prompt], replies: Sequence[str]) -> dict[str, float]:
    return {name: fmean(values) for name, values in style(prompts, replies).items()}


def outside(rate: float, *bounds: float) -> float:
    """How far a share is outside the range of `bounds`."""
    return max(min(bounds) - rate, rate - max(bounds), 0.0)


def human_style_rates(prompts: Sequence[Prompt]) -> dict[str, float]:
    """Of the people's own replies to the prompts that have one; empty if none has."""
    answered = [prompt for prompt in prompts if prompt.human_reply]
    return style_rates(answered, [prompt.human_reply or "" for prompt in answered]) if answered else {}
