"""Which policy is kept."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from groundup.align.alarms import KINDS
from groundup.align.validation import Validation
from tests.align.conftest import align_params


@pytest.fixture
def validation() -> Validation:
    params = align_params(budgets={"kl": 8.0, "length": 0.25, "diversity": 0.2})
    validation = Validation(
        SimpleNamespace(tokenizer=None), [], None, Path("report"), params, lambda step, **values: None
    )
    validation.reference_length, validation.reference_distinct_2 = 20.0, 0.75
    return validation


SFT = {"reward": 0.2, "kl": 0.0, "reply_length": 20.0, "distinct_2": 0.75}


def validated(validation: Validation, iteration: int, summary: dict[str, float], alarms: set[str]) -> int:
    """Iteration that is kept after a validation with these figures and alarms."""
    validation.alarms.standing = alarms
    validation._keep_if_best(iteration, summary, dict)
    return validation.best.iteration


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
def test_the_best_within_all_budgets_is_kept(validation: Validation, summary: dict[str, float], kept: int) -> None:
    assert validated(validation, 0, SFT, set()) == 0
    assert validated(validation, 5, SFT | summary, set()) == kept


@pytest.mark.parametrize("alarm", KINDS)
def test_what_raises_an_alarm_is_not_kept(validation: Validation, alarm: str) -> None:
    better = {"reward": 0.5, "kl": 4.0, "reply_length": 20.0, "distinct_2": 0.75}
    validated(validation, 0, SFT, set())
    assert validated(validation, 5, better, {alarm}) == 0
    assert validated(validation, 10, better, set()) == 10
