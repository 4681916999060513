"""Which validations raise an alarm."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from groundup.align.alarms import Alarms
from groundup.core.judging.word_judge import WordJudge
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import Prompt
from groundup.runner.params.align import AlarmParams
from tests.align.conftest import MONITOR_ROWS, QUESTIONS, align_params

PROMPTS = [Prompt(f"c{i}", [{"role": "user", "content": question}], []) for i, question in enumerate(QUESTIONS)]
LIMITS = AlarmParams(z=2.0, length_drift=0.5, repetition_rise=0.2, style=1.0, kl_stop=20.0)
SEA, STREET = "The sea is old.", "The street is old."


@pytest.fixture(scope="module")
def monitor() -> WordJudge:
    return WordJudge.fit(MONITOR_ROWS, align_params().monitor_judge)


@pytest.fixture
def alarms(tiny_tokenizer: PreTrainedTokenizerFast, monitor: WordJudge) -> Alarms:
    return Alarms(PROMPTS, tiny_tokenizer, monitor, LIMITS)


def answers(tokenizer: PreTrainedTokenizerFast, reply: str, scores: list[float], kl: float = 1.0) -> Answers:
    tokens = tokenizer(reply, add_special_tokens=False)["input_ids"]
    return Answers([tokens] * 5, [True] * 5, torch.tensor(scores), torch.zeros(5), torch.full((5,), kl))


LOW, HIGH = [0.0, 0.1, 0.2, 0.3, 0.4], [1.0, 1.2, 1.1, 1.3, 1.5]


@pytest.mark.parametrize(
    ("before", "after", "scores", "alarm"),
    [
        (SEA, STREET, HIGH, 1.0),  # the score rises, the monitor's falls
        (STREET, SEA, HIGH, 0.0),  # both rise
        (SEA, STREET, LOW, 0.0),  # the score does not rise
        (SEA, SEA, HIGH, 0.0),
        (SEA, STREET, [2.0, -1.0, 1.5, -1.0, 0.2], 0.0),  # it rises, no more than by chance
    ],
)
def test_overoptimization(
    alarms: Alarms,
    tiny_tokenizer: PreTrainedTokenizerFast,
    before: str,
    after: str,
    scores: list[float],
    alarm: float,
) -> None:
    start = alarms.check(0, answers(tiny_tokenizer, before, LOW))
    assert start["val_monitor_change"] == start["val_monitor_z"] == 0.0
    figures = alarms.check(5, answers(tiny_tokenizer, after, scores))
    assert figures["alarm_overoptimization"] == alarm
    assert ("overoptimization" in alarms.standing) == bool(alarm)
    rise = figures["val_monitor_score"] - start["val_monitor_score"]
    assert figures["val_monitor_change"] == pytest.approx(rise)


def test_without_a_monitor_the_other_alarms_still_work(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    alarms = Alarms(PROMPTS, tiny_tokenizer, None, LIMITS)
    alarms.check(0, answers(tiny_tokenizer, SEA, LOW))
    figures = alarms.check(5, answers(tiny_tokenizer, f"{SEA} Do you like music?", HIGH))
    assert figures == {
        "alarm_overoptimization": 0.0,
        "alarm_length": 1.0,
        "alarm_repetition": 0.0,
        "alarm_style": 0.0,
        "alarm_kl": 0.0,
    }
    assert alarms.metrics() == {"alarms": 1, "alarms_fired": "length", "rollbacks": 0}


@pytest.mark.parametrize(
    ("tokens", "kl", "standing"),
    [
        ([5, 6, 7, 8, 9, 10, 11, 12], 1.0, set()),
        ([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17], 1.0, {"length"}),
        ([5, 6, 7], 1.0, {"length"}),
        ([5, 5, 5, 5, 5, 5, 5, 5], 1.0, {"repetition"}),
        ([5, 6, 7, 8, 9, 10, 11, 12], 20.5, {"kl"}),
        ([5] * 20, 20.5, {"length", "repetition", "kl"}),
    ],
)
def test_alarms_about_the_replies(alarms: Alarms, tokens: list[int], kl: float, standing: set[str]) -> None:
    alarms.monitor = None
    alarms.check(0, Answers([list(range(5, 13))] * 5, [True] * 5, torch.zeros(5), torch.zeros(5), torch.zeros(5)))
    assert alarms.standing == set()
    alarms.check(5, Answers([tokens] * 5, [True] * 5, torch.zeros(5), torch.zeros(5), torch.full((5,), kl)))
    assert alarms.standing == standing


STATEMENT, QUESTION = "The sea is old.", "Is the sea old?"


@pytest.mark.parametrize(
    ("human_reply", "num_asking", "fires"),
    [
        (None, 1, False),  # SFT never asks, so 0.2 is the most
        (None, 2, True),
        (STATEMENT, 2, True),
        (QUESTION, 5, False),  # people always ask: every share is between SFT's and theirs
    ],
)
def test_replies_that_leave_the_style_of_sft_and_people(
    tiny_tokenizer: PreTrainedTokenizerFast, human_reply: str | None, num_asking: int, fires: bool
) -> None:
    prompts = [replace(prompt, human_reply=human_reply) for prompt in PROMPTS]
    alarms = Alarms(prompts, tiny_tokenizer, None, LIMITS.model_copy(update={"style": 0.2}))
    statement, question = (
        tiny_tokenizer(text, add_special_tokens=False)["input_ids"] for text in (STATEMENT, QUESTION)
    )
    zeros = torch.zeros(5)
    alarms.check(0, Answers([statement] * 5, [True] * 5, zeros, zeros, zeros))
    mixed = [question] * num_asking + [statement] * (5 - num_asking)
    figures = alarms.check(5, Answers(mixed, [True] * 5, zeros, zeros, zeros))
    assert figures["alarm_style"] == float(fires)
    if fires:
        people = "" if human_reply is None else " and 0% of people"
        assert alarms.fired["style"].message == (
            f"question_rate is 40%, 0% in iteration 0{people}, further away than alarms.style 20%"
        )


def test_an_alarm_is_warned_about_once_with_numbers_and_a_remedy(
    alarms: Alarms, tiny_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    alarms.check(0, answers(tiny_tokenizer, SEA, LOW))
    for iteration in (5, 10):
        alarms.check(iteration, answers(tiny_tokenizer, STREET, HIGH))
    (record,) = caplog.records
    assert "iteration 5: the score rose by 1.020" in record.getMessage()
    assert "raise the weight of the KL penalty" in record.getMessage()
    alarms.check(15, answers(tiny_tokenizer, SEA, HIGH))
    assert alarms.standing == set()  # but it has fired
    alarms.write(tmp_path)
    written = json.loads((tmp_path / "alarms.json").read_text())
    assert written["alarms"]["overoptimization"]["iterations"] == [5, 10]
    assert written["monitor"]["num_conversations"] == 200
    assert alarms.metrics()["alarms"] == 1


def test_its_state_goes_on(alarms: Alarms, tiny_tokenizer: PreTrainedTokenizerFast, monitor: WordJudge) -> None:
    alarms.check(0, answers(tiny_tokenizer, SEA, LOW))
    alarms.check(5, answers(tiny_tokenizer, STREET, HIGH))
    other = Alarms(PROMPTS, tiny_tokenizer, monitor, LIMITS)
    other.load_state(json.loads(json.dumps(alarms.state())))
    later: Any = answers(tiny_tokenizer, STREET, HIGH, kl=30.0)
    assert other.check(10, later) == alarms.check(10, later)
    assert other.state() == alarms.state()


def test_an_alarm_that_stands_ends_only_when_half_of_it_is_gone(
    alarms: Alarms, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    alarms.check(0, answers(tiny_tokenizer, SEA, LOW))
    change = -alarms.check(1, answers(tiny_tokenizer, STREET, LOW))["val_monitor_z"]  # no gain, so no alarm

    def stands(z: float, scores: list[float]) -> bool:
        alarms.params = LIMITS.model_copy(update={"z": z})
        return alarms.check(5, answers(tiny_tokenizer, STREET, scores))["alarm_overoptimization"] == 1.0

    certain = [score + 10 for score in LOW]
    assert not stands(1.5 * change, certain)
    assert stands(0.9 * change, certain)
    assert stands(1.5 * change, certain)
    assert not stands(2.1 * change, certain)
    assert not stands(1.5 * change, certain)
