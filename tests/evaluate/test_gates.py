import pytest

from groundup.evaluate.gates import check_gates
from groundup.runner.params.evaluate import GateParams

METRICS = {"aligned": {"kl_to_sft": 3.0}, "change_ci_low": 0.0, "gates_open": True, "note": "text"}


def gate(metric: str, bound: str, limit: float) -> GateParams:
    return GateParams.model_validate({"name": "a", "metric": metric, "bound": bound, "limit": limit})


@pytest.mark.parametrize(
    ("metric", "bound", "limit", "passed"),
    [
        ("aligned.kl_to_sft", "at_most", 3.0, True),
        ("aligned.kl_to_sft", "at_most", 2.9, False),
        ("aligned.kl_to_sft", "at_least", 3.0, True),
        ("aligned.kl_to_sft", "at_least", 3.1, False),
        ("change_ci_low", "at_most", 0.0, True),
    ],
)
def test_a_limit_itself_is_allowed(metric: str, bound: str, limit: float, passed: bool) -> None:
    (checked,) = check_gates(METRICS, [gate(metric, bound, limit)])
    assert checked.passed is passed
    assert checked.value == (3.0 if "kl" in metric else 0.0)


def test_the_reason_has_value_and_limit() -> None:
    (checked,) = check_gates(METRICS, [gate("aligned.kl_to_sft", "at_most", 2.5)])
    assert checked.reason == "aligned.kl_to_sft is 3 and must be at most 2.5"


@pytest.mark.parametrize("metric", ["kl_to_sft", "aligned", "note", "gates_open", "misspelt"])
def test_what_was_not_measured_does_not_pass(metric: str) -> None:
    (checked,) = check_gates(METRICS, [gate(metric, "at_least", -1e9)])
    assert (checked.passed, checked.value) == (False, None)
    assert f"{metric} was not measured" in checked.reason


def test_without_gates_there_is_nothing_to_fail() -> None:
    assert check_gates(METRICS, []) == []
