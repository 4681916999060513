"""Which policy is kept."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from groundup.frame.checkpoints import Checkpoints
from groundup.frame.interruption import Interruption
from groundup.train.ppo.schedule import Schedule
from tests.train.ppo.conftest import align_params


@pytest.fixture
def schedule(tmp_path: Path) -> Schedule:
    params = align_params(kl_budget=8.0, length_budget=0.25)
    return Schedule(
        [], 0, SimpleNamespace(), params, Checkpoints(tmp_path, Interruption()), lambda step, **values: None
    )


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
    for iteration, values in ((0, {"reward": 0.2, "kl": 0.0, "reply_length": 20.0}), (5, summary)):
        ppo = SimpleNamespace(
            iteration=iteration, length_control=SimpleNamespace(target=20.0), policy=SimpleNamespace(weights=dict)
        )
        schedule._keep_if_best(ppo, values)
    assert schedule.kept.iteration == kept
