"""Which validations raise an alarm."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from groundup.align.alarms import Watch
from groundup.core.judging.judge import Judge
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import Prompt
from groundup.runner.params.align import AlarmParams
from tests.align.conftest import MONITOR_ROWS, QUESTIONS, align_params

PROMPTS = [Prompt(f"c{i}", [{"role": "user", "content": question}], []) for i, question in enumerate(QUESTIONS)]
LIMITS = {
    "z": 2.0,
    "length_drift": 0.5,
    "repetition_rise": 0.2,
    "rollback_after": 1,
    "rollback_kl_factor": 2.0,
    "max_rollbacks": 1,
}
SEA, STREET = "The sea is old.", "The street is old."


@pytest.fixture(scope="module")
def monitor() -> Judge:
    return Judge.fit(MONITOR_ROWS, align_params().monitor_judge)


@pytest.fixture
def watch(tiny_tokenizer: PreTrainedTokenizerFast, monitor: Judge) -> Watch:
    return Watch(PROMPTS, tiny_tokenizer, monitor, AlarmParams.model_validate(LIMITS), kl_stop=20.0)


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
    watch: Watch,
    tiny_tokenizer: PreTrainedTokenizerFast,
    before: str,
    after: str,
    scores: list[float],
    alarm: float,
) -> None:
    start = watch.look(0, answers(tiny_tokenizer, before, LOW))
    assert start["val_monitor_change"] == start["val_monitor_z"] == 0.0
    figures = watch.look(5, answers(tiny_tokenizer, after, scores))
    assert figures["alarm_overoptimization"] == alarm
    assert ("overoptimization" in watch.standing) == bool(alarm)
    rise = figures["val_monitor_score"] - start["val_monitor_score"]
    assert figures["val_monitor_change"] == pytest.approx(rise)


def test_without_a_monitor_the_other_alarms_still_work(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    watch = Watch(PROMPTS, tiny_tokenizer, None, AlarmParams.model_validate(LIMITS), kl_stop=20.0)
    watch.look(0, answers(tiny_tokenizer, SEA, LOW))
    figures = watch.look(5, answers(tiny_tokenizer, f"{SEA} Do you like music?", HIGH))
    assert figures == {
        "alarm_overoptimization": 0.0,
        "alarm_length": 1.0,
        "alarm_repetition": 0.0,
        "alarm_kl": 0.0,
    }
    assert watch.metrics() == {"alarms": 1, "alarms_fired": "length", "rollbacks": 0}


@pytest.mark.parametrize(
    ("tokens", "kl", "alarms"),
    [
        ([5, 6, 7, 8, 9, 10, 11, 12], 1.0, set()),
        ([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17], 1.0, {"length"}),
        ([5, 6, 7], 1.0, {"length"}),
        ([5, 5, 5, 5, 5, 5, 5, 5], 1.0, {"repetition"}),
        ([5, 6, 7, 8, 9, 10, 11, 12], 20.5, {"kl"}),
        ([5] * 20, 20.5, {"length", "repetition", "kl"}),
    ],
)
def test_alarms_about_the_replies(watch: Watch, tokens: list[int], kl: float, alarms: set[str]) -> None:
    watch.monitor = None
    watch.look(0, Answers([list(range(5, 13))] * 5, [True] * 5, torch.zeros(5), torch.zeros(5), torch.zeros(5)))
    assert watch.standing == set()
    watch.look(5, Answers([tokens] * 5, [True] * 5, torch.zeros(5), torch.zeros(5), torch.full((5,), kl)))
    assert watch.standing == alarms


def test_an_alarm_is_warned_about_once_with_numbers_and_a_remedy(
    watch: Watch, tiny_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    watch.look(0, answers(tiny_tokenizer, SEA, LOW))
    for iteration in (5, 10):
        watch.look(iteration, answers(tiny_tokenizer, STREET, HIGH))
    (record,) = caplog.records
    assert "iteration 5: the score rose by 1.020" in record.getMessage()
    assert "raise align.kl_coefficient" in record.getMessage()
    watch.look(15, answers(tiny_tokenizer, SEA, HIGH))
    assert watch.standing == set()  # but it has fired
    watch.write(tmp_path)
    written = json.loads((tmp_path / "alarms.json").read_text())
    assert written["alarms"]["overoptimization"]["iterations"] == [5, 10]
    assert written["monitor"]["num_conversations"] == 200
    assert watch.metrics()["alarms"] == 1


def test_its_state_goes_on(watch: Watch, tiny_tokenizer: PreTrainedTokenizerFast, monitor: Judge) -> None:
    watch.look(0, answers(tiny_tokenizer, SEA, LOW))
    watch.look(5, answers(tiny_tokenizer, STREET, HIGH))
    other = Watch(PROMPTS, tiny_tokenizer, monitor, watch.params, kl_stop=20.0)
    other.load_state(json.loads(json.dumps(watch.state())))
    later: Any = answers(tiny_tokenizer, STREET, HIGH, kl=30.0)
    assert other.look(10, later) == watch.look(10, later)
    assert other.state() == watch.state()


def test_an_alarm_that_stands_ends_only_when_half_of_it_is_gone(
    watch: Watch, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    watch.look(0, answers(tiny_tokenizer, SEA, LOW))
    change = -watch.look(1, answers(tiny_tokenizer, STREET, LOW))["val_monitor_z"]  # no gain, so no alarm

    def stands(z: float, scores: list[float]) -> bool:
        watch.params = AlarmParams.model_validate(LIMITS | {"z": z})
        return watch.look(5, answers(tiny_tokenizer, STREET, scores))["alarm_overoptimization"] == 1.0

    certain = [score + 10 for score in LOW]
    assert not stands(1.5 * change, certain)
    assert stands(0.9 * change, certain)
    assert stands(1.5 * change, certain)
    assert not stands(2.1 * change, certain)
    assert not stands(1.5 * change, certain)
