"""Replies that read nothing or little of their conversation: what a win under the gold judge is worth beside theirs.

Each control adapts to the judge: it is chosen by the judge's own scores on validation prompts, then met on test ones.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from groundup.core.formats.records import Message
from groundup.core.judging.judge import Chat
from groundup.core.judging.statistics import Floats, wins
from groundup.core.judging.words import QUESTION, lower_words

Control = Callable[[Sequence[Message]], str]  # from the messages before to a reply


class Scorer(Protocol):
    """A judge, as a control sees it."""

    def score(self, chats: Sequence[Chat]) -> Floats:
        """[N]: of the last message of each chat."""


CONSTANTS = (
    "Hello! How are you?",
    "Hey what's up!",
    "Hi",
    "How are you?",
    "I'm good, how are you?",
    "What? Why?",
    "Why?",
    "What about you?",
    "What do you like to do?",
    "What is your favorite food?",
    "Do you like music?",
    "That is so cool! What do you do?",
    "Oh cool! Why?",
    "That's great!",
    "Nice",
    "Haha yeah",
    "Yes",
    "I don't know",
    "I think so too",
    "I love it",
)
# In the manner of ELIZA (Weizenbaum 1966): a word of the last message, put into a sentence that fits any word.
TEMPLATES = (
    "why do you say {}?",
    "what do you like about {}?",
    "tell me more about {}",
    "i love {} too!",
    "how long have you been into {}?",
    "do you really like {}?",
    "{} is so cool!",
    "i have never tried {}",
    "what kind of {} do you like?",
    "haha {} sounds fun",
)
TITLES = {
    "constant": f"One reply to all, the best of {len(CONSTANTS)}",
    "two_constants": "One reply to all questions, one to all else",
    "echo": "The user's last message",
    "template": f"A word of the last message in a template, the best of {len(TEMPLATES)}",
}


def choose_controls(judge: Scorer, messages: Sequence[Sequence[Message]], sft: Sequence[str]) -> dict[str, Control]:
    """messages [N] and the SFT model's replies [N] on validation prompts; the controls in the order of TITLES."""
    before = judge.score(with_replies(messages, sft))
    constants, templates = candidates()

    def won(control: Control) -> np.ndarray:
        return wins(judge.score(with_control(control, messages)), before)

    by_constant, by_template = (np.array(list(map(won, controls))) for controls in (constants, templates))
    asked = np.array(list(map(is_question, messages)))
    best = {kind: int(by_constant[:, asked == kind].sum(axis=1).argmax()) for kind in (True, False)}
    return {
        "constant": constants[by_constant.sum(axis=1).argmax()],
        "two_constants": partial(answer_by_kind, CONSTANTS[best[True]], CONSTANTS[best[False]]),
        "echo": echo,
        "template": templates[by_template.sum(axis=1).argmax()],
    }


def candidates() -> tuple[list[Control], list[Control]]:
    """Constants and templates."""
    return [partial(constant, text) for text in CONSTANTS], [partial(fill, template) for template in TEMPLATES]


def with_every_control(messages: Sequence[Sequence[Message]]) -> list[list[Message]]:
    """What choose_controls scores, besides SFT's replies."""
    return [chat for controls in candidates() for control in controls for chat in with_control(control, messages)]


def with_control(control: Control, messages: Sequence[Sequence[Message]]) -> list[list[Message]]:
    return with_replies(messages, list(map(control, messages)))


def with_replies(messages: Sequence[Sequence[Message]], replies: Sequence[str]) -> list[list[Message]]:
    return [[*said, {"role": "assistant", "content": reply}] for said, reply in zip(messages, replies, strict=True)]


def constant(text: str, messages: Sequence[Message]) -> str:
    return text


def is_question(messages: Sequence[Message]) -> bool:
    return QUESTION in messages[-1]["content"]


def answer_by_kind(to_question: str, to_other: str, messages: Sequence[Message]) -> str:
    return to_question if is_question(messages) else to_other


def echo(messages: Sequence[Message]) -> str:
    return messages[-1]["content"]


def fill(template: str, messages: Sequence[Message]) -> str:
    """With the longest word of the last message, the first of several."""
    return template.format(max(filter(str.isalpha, lower_words(messages[-1]["content"])), key=len, default="that"))
