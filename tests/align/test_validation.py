"""Which policy is kept."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from groundup.align.alarms import KINDS
from groundup.align.budgets import Budgets
from groundup.align.validation import Validation
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import Prompt
from tests.align.conftest import align_params


class Worker:
    """Its replies have the given mean score and break the given budgets."""

    tokenizer = SimpleNamespace(batch_decode=lambda tokens, **_: ["Yes."] * len(tokens))
    policy = SimpleNamespace(model=None)

    def roll_out(self, model: Any, prompts: list[list[int]], seed: int) -> Any:
        zeros = torch.zeros(len(prompts))
        answers = Answers([[5, 6]] * len(prompts), [True] * len(prompts), zeros + self.score, zeros, zeros)
        return SimpleNamespace(
            answers=answers, summary=lambda: {"kl": 0.0, "reply_length": 2.0, "end_of_turn_rate": 1.0}
        )


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def validation(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Validation:
    prompts = [Prompt(f"c{i}", [{"role": "user", "content": "Why?"}], [1]) for i in range(3)]
    log = lambda step, **values: None  # noqa: E731
    validation = Validation(worker, prompts, None, Path("report"), align_params(), log)
    monkeypatch.setattr(validation.alarms, "check", lambda iteration, answers: {})
    return validation


@pytest.fixture
def validated(validation: Validation, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Any:
    def validate(iteration: int, score: float, exceeded: list[str], alarms: set[str]) -> int:
        """Iteration that is kept after a validation with this score, these exceeded budgets and these alarms."""
        monkeypatch.setattr(Budgets, "exceeded", lambda *_: exceeded)
        worker.score, validation.alarms.standing = score, alarms
        validation.validate(iteration, dict)
        return validation.best.iteration

    return validate


def test_the_best_within_all_budgets_is_kept(validated: Any) -> None:
    assert validated(0, 0.2, [], set()) == 0
    assert validated(5, 0.1, [], set()) == 0
    assert validated(10, 0.5, ["kl"], set()) == 0
    assert validated(15, 0.3, [], set()) == 15
    assert validated(20, 0.5, ["length", "echo_rate"], set()) == 15
    assert validated(25, 0.4, [], set()) == 25


@pytest.mark.parametrize("alarm", KINDS)
def test_what_raises_an_alarm_is_not_kept(validated: Any, alarm: str) -> None:
    validated(0, 0.2, [], set())
    assert validated(5, 0.5, [], {alarm}) == 0
    assert validated(10, 0.5, [], set()) == 10
