"""What counts as a greeting, a question, an echo and a repetition."""

import pytest

from groundup.core.rollout.prompts import Prompt
from groundup.core.rollout.style import STYLE, asks, echoes, greets, human_style_rates, repeats, style, style_rates

CHAT = [
    {"role": "user", "content": "Hi!"},
    {"role": "assistant", "content": "Hello, how are you?"},
    {"role": "user", "content": "I like the old town by the sea."},
]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Hello!", True),
        ("hi there, what is new?", True),
        ("HEY", True),
        ("Good morning to you.", True),
        ("- Hey.", True),
        ("Good, morning is my favourite time.", True),  # literal: punctuation does not count
        ("Good idea.", False),
        ("Hi-fi is what I like.", False),
        ("Hidden in the sea.", False),
        ("Oh, hello!", False),
        ("", False),
    ],
)
def test_greets(reply: str, expected: bool) -> None:
    assert greets(CHAT, reply) is expected


@pytest.mark.parametrize(("reply", "expected"), [("Why?", True), ("Is it? Yes.", True), ("Why.", False), ("", False)])
def test_asks(reply: str, expected: bool) -> None:
    assert asks(CHAT, reply) is expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("I like the old town by the sea.", True),
        ("the old town", True),  # contained
        ("You like the sea", True),  # three of four words
        ("You like sea food", False),  # two of four
        ("Hello, how are you?", False),  # of an earlier message
        ("It is warm there.", False),
        ("", False),
    ],
)
def test_echoes(reply: str, expected: bool) -> None:
    assert echoes(CHAT, reply) is expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("hello how are you", True),  # an earlier turn of its own
        ("I like the old town by the sea!", True),  # the user's turn
        ("hi", True),
        ("the sea is the sea is blue", True),  # "the sea is" twice
        ("no no no no", True),
        ("no no no", False),
        ("the sea and the sea", False),  # two words twice
        ("Hello, how are you now?", False),
        ("", False),
    ],
)
def test_repeats(reply: str, expected: bool) -> None:
    assert repeats(CHAT, reply) is expected


def test_shares_of_several_replies_and_of_people() -> None:
    prompts = [Prompt("a", CHAT, [], "Hello! Is it far?"), Prompt("b", CHAT, [], None), Prompt("c", CHAT, [], "Yes.")]
    replies = ["Hi, hi, hi.", "What?", "the old town"]
    assert style(prompts, replies) == {
        "greeting_rate": [1.0, 0.0, 0.0],
        "question_rate": [0.0, 1.0, 0.0],
        "echo_rate": [0.0, 0.0, 1.0],
        "repeat_rate": [0.0, 0.0, 0.0],
    }
    assert style_rates(prompts, replies)["question_rate"] == pytest.approx(1 / 3)
    assert human_style_rates(prompts) == {
        "greeting_rate": 0.5,
        "question_rate": 0.5,
        "echo_rate": 0.0,
        "repeat_rate": 0.0,
    }
    assert human_style_rates(prompts[1:2]) == {}
    assert style_rates(prompts, replies).keys() == STYLE.keys()
