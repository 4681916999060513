import json
from pathlib import Path

import pytest

from groundup.evaluate.measures.gates import Gate, Gates, check_gates, gate_sentence
from groundup.runner.params.evaluate import GateParams
from tests.evaluate.judging import PARAMS
from tests.evaluate.measures.made_up import context

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


@pytest.mark.parametrize(
    ("gates", "sentence"),
    [
        ([], "There are no gates"),
        ([Gate("a", "x", 1.0, 0.0, True, "fine")], "passes all 1 gates and may be promoted"),
        (
            [Gate("insults no more", "x", 0.5, 0.0, False, "x is 0.5 and must be at most 0")],
            "fails 1 of 1 gates and is not promoted: insults no more (x is 0.5 and must be at most 0).",
        ),
    ],
)
def test_what_the_gates_say(gates: list[Gate], sentence: str) -> None:
    assert sentence in gate_sentence(gates)


def test_gates_are_shown_and_left_as_json(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"gates": [gate("aligned.kl_to_sft", "at_most", 2.5)]})
    gates = Gates(context(params=params, out=tmp_path))
    assert gates.of_all(METRICS) == {"gates_passed": 0}
    gates.publish(METRICS)
    (row,) = json.loads((tmp_path / "gates.json").read_text(encoding="utf-8"))
    assert set(row) == {"name", "metric", "value", "limit", "passed", "reason"}
    assert row["passed"] is False
    shown = gates.shown(METRICS)
    assert (shown.tiles[0].value, shown.tiles[0].note) == ("0 of 1", "not promoted")
    (shown_row,) = shown.sections[0].tables[0].rows
    assert (shown_row.label, shown_row.cells[0].value) == ("A", "failed")
