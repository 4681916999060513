"""Which policy is kept."""

from types import SimpleNamespace

import pytest

from groundup.align.alarms import ALARMS
from groundup.align.validation import Following
from tests.align.conftest import align_params


@pytest.fixture
def following() -> Following:
    following = Following(
        worker=SimpleNamespace(),
        points=SimpleNamespace(prompts=[]),
        watch=SimpleNamespace(standing=set()),
        samples=SimpleNamespace(),
        validation_seed=0,
        params=align_params(kl_budget=8.0, length_budget=0.25, diversity_budget=0.2),
        log=lambda step, **values: None,
    )
    following.reference_length, following.reference_distinct_2 = 20.0, 0.75
    return following


SFT = {"reward": 0.2, "kl": 0.0, "reply_length": 20.0, "distinct_2": 0.75}


def validated(following: Following, iteration: int, summary: dict[str, float], alarms: set[str]) -> int:
    """Iteration that is kept after a validation with these figures and alarms."""
    following.watch.standing = alarms
    following._keep_if_best(iteration, summary, dict)
    return following.kept.iteration


@pytest.mark.parametrize(
    ("summary", "kept"),
    [
        ({"reward": 0.5, "kl": 8.0, "reply_length": 20.0}, 5),
        ({"reward": 0.5, "kl": 8.1, "reply_length": 20.0}, 0),
        ({"reward": 0.5, "kl": 4.0, "reply_length": 25.0}, 5),
        ({"reward": 0.5, "kl": 4.0, "reply_length": 25.1}, 0),
        ({"reward": 0.5, "kl": 4.0, "reply_length": 14.9}, 0),
        ({"reward": 0.5, "kl": 4.0, "distinct_2": 0.61}, 5),
        ({"reward": 0.5, "kl": 4.0, "distinct_2": 0.59}, 0),
        ({"reward": 0.1, "kl": 4.0, "reply_length": 20.0}, 0),
    ],
)
def test_the_best_within_all_budgets_is_kept(following: Following, summary: dict[str, float], kept: int) -> None:
    assert validated(following, 0, SFT, set()) == 0
    assert validated(following, 5, SFT | summary, set()) == kept


@pytest.mark.parametrize("alarm", ALARMS)
def test_what_raises_an_alarm_is_not_kept(following: Following, alarm: str) -> None:
    better = {"reward": 0.5, "kl": 4.0, "reply_length": 20.0, "distinct_2": 0.75}
    validated(following, 0, SFT, set())
    assert validated(following, 5, better, {alarm}) == 0
    assert validated(following, 10, better, set()) == 10
