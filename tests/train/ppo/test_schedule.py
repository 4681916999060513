"""Which policy is kept."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from groundup.frame.checkpoints import Checkpoints
from groundup.frame.interruption import Interruption
from groundup.train.ppo.alarms import ALARMS
from groundup.train.ppo.schedule import Schedule
from tests.train.ppo.conftest import align_params


@pytest.fixture
def schedule(tmp_path: Path) -> Schedule:
    params = align_params(kl_budget=8.0, length_budget=0.25)
    return Schedule(
        0,
        SimpleNamespace(prompts=[]),
        SimpleNamespace(standing=set()),
        SimpleNamespace(),
        params,
        Checkpoints(tmp_path, Interruption()),
        lambda step, **values: None,
    )


SFT = {"reward": 0.2, "kl": 0.0, "reply_length": 20.0}


def validated(schedule: Schedule, iteration: int, summary: dict[str, float], alarms: set[str]) -> int:
    """Iteration that is kept after a validation with these figures and alarms."""
    ppo = SimpleNamespace(iteration=iteration, length_control=SimpleNamespace(target=20.0), learned_state=dict)
    schedule.watch.standing = alarms
    schedule._keep_if_best(ppo, summary)
    return schedule.kept.iteration


@pytest.mark.parametrize(
    ("summary", "kept"),
    [
        ({"reward": 0.5, "kl": 8.0, "reply_length": 20.0}, 5),
        ({"reward": 0.5, "kl": 8.1, "reply_length": 20.0}, 0),
        ({"reward": 0.5, "kl": 4.0, "reply_length": 25.0}, 5),
        ({"reward": 0.5, "kl": 4.0, "reply_length": 25.1}, 0),
        ({"reward": 0.5, "kl": 4.0, "reply_length": 14.9}, 0),
        ({"reward": 0.1, "kl": 4.0, "reply_length": 20.0}, 0),
    ],
)
def test_the_best_within_both_budgets_is_kept(schedule: Schedule, summary: dict[str, float], kept: int) -> None:
    assert validated(schedule, 0, SFT, set()) == 0
    assert validated(schedule, 5, summary, set()) == kept


@pytest.mark.parametrize("alarm", ALARMS)
def test_what_raises_an_alarm_is_not_kept(schedule: Schedule, alarm: str) -> None:
    better = {"reward": 0.5, "kl": 4.0, "reply_length": 20.0}
    validated(schedule, 0, SFT, set())
    assert validated(schedule, 5, better, {alarm}) == 0
    assert validated(schedule, 10, better, set()) == 10
