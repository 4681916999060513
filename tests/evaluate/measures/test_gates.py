import json
import math
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.core.judging.gates import Gate, check_gates
from groundup.evaluate.intervals import paired_score_interval
from groundup.evaluate.measures.gates import Gates, gate_sentence
from groundup.evaluate.probes.figures import TITLES, change_figures
from groundup.evaluate.shown import ENDS, Cell
from groundup.runner.params.gates import GateParams
from groundup.runner.params.load import load_params
from tests.contract.imports import ROOT
from tests.evaluate.judging import PARAMS
from tests.evaluate.measures.decoded import interval
from tests.evaluate.measures.made_up import context

METRICS = {
    "aligned": {"kl_to_sft": 3.0, "kl_to_sft_num_items": 400},
    **interval("change", 0.02, -0.05, 0.125),
    "change_num_items": 40,
    "uncounted": 1.0,
    "gates_open": True,
    "note": "text",
}


def gate(metric: str, bound: str, limit: float, min_items: int = 0) -> GateParams:
    return GateParams.model_validate(
        {"name": "a", "metric": metric, "bound": bound, "limit": limit, "min_items": min_items}
    )


@pytest.mark.parametrize(
    ("metric", "bound", "limit", "passed"),
    [
        ("aligned.kl_to_sft", "at_most", 3.0, True),
        ("aligned.kl_to_sft", "at_most", 2.9, False),
        ("aligned.kl_to_sft", "at_least", 3.0, True),
        ("aligned.kl_to_sft", "at_least", 3.1, False),
        ("aligned.kl_to_sft", "within", 3.0, True),
        ("aligned.kl_to_sft", "within", 2.9, False),
        ("aligned.kl_to_sft", "above", 2.9, True),
        ("aligned.kl_to_sft", "above", 3.0, False),
        ("change", "at_most", 0.125, True),
        ("change", "at_most", 0.124, False),  # though the value keeps it
        ("change", "at_least", -0.05, True),
        ("change", "at_least", -0.049, False),
        ("change", "within", 0.125, True),
        ("change", "within", 0.1, False),
        ("change", "above", -0.051, True),
        ("change", "above", -0.05, False),
    ],
)
def test_the_whole_interval_keeps_the_limit_and_the_limit_itself_is_allowed(
    metric: str, bound: str, limit: float, passed: bool
) -> None:
    (checked,) = check_gates(METRICS, [gate(metric, bound, limit, 40)])
    assert checked.passed is passed
    ends = (checked.value, checked.ci_low, checked.ci_high, checked.num_items)
    assert ends == ((3.0, 3.0, 3.0, 400) if "kl" in metric else (0.02, -0.05, 0.125, 40))


@pytest.mark.parametrize(
    ("checks", "reason"),
    [
        (("aligned.kl_to_sft", "at_most", 2.5), "aligned.kl_to_sft is 3 and must be at most 2.5"),
        (
            ("change", "at_most", 0.1),
            "change is 0.02 (-0.05 to 0.125), and the whole interval must be at most 0.1: the value is, the evidence "
            "does not suffice",
        ),
        (
            ("change", "within", 0.01),
            "change is 0.02 (-0.05 to 0.125), and the whole interval must be within -0.01 to 0.01",
        ),
        (
            ("change", "at_most", 0.2, 41),
            "change was measured on 40 items, which is too few to show anything: the gate takes at least 41",
        ),
        (
            ("uncounted", "at_most", 2.0, 1),
            "uncounted has no count uncounted_num_items, and the gate takes at least 1 items: report the count, or "
            "set min_items to 0",
        ),
    ],
)
def test_the_reason_has_what_was_found_and_what_it_takes(checks: tuple, reason: str) -> None:
    (checked,) = check_gates(METRICS, [gate(*checks)])
    assert (checked.passed, checked.reason) == (False, reason)


def test_a_figure_that_counts_nothing_passes_a_gate_that_asks_for_no_count() -> None:
    (checked,) = check_gates(METRICS, [gate("uncounted", "at_most", 1.0)])
    assert (checked.passed, checked.num_items) == (True, None)


@pytest.mark.parametrize("metric", ["kl_to_sft", "aligned", "note", "gates_open", "misspelt"])
def test_what_was_not_measured_does_not_pass(metric: str) -> None:
    (checked,) = check_gates(METRICS, [gate(metric, "at_least", -1e9)])
    assert (checked.passed, checked.value) == (False, None)
    assert f"{metric} was not measured" in checked.reason


def test_a_figure_without_a_number_does_not_pass() -> None:
    nothing = dict.fromkeys(interval("change", 0, 0, 0), math.nan)
    for bound in ("at_least", "at_most", "within"):
        (checked,) = check_gates(nothing, [gate("change", bound, 0.0)])
        assert not checked.passed


@pytest.mark.parametrize("end", ["change_ci_low", "aligned.kl_to_sft_ci_high"])
def test_a_gate_on_one_end_of_an_interval_is_refused(end: str) -> None:
    with pytest.raises(ValueError, match=rf"name the figure itself, {end.removesuffix(end[-7:]).rstrip('_')}"):
        gate(end, "at_most", 0.0)


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [
        ([0.0] * 40, [0.0] * 40, True),
        ([0.0] * 40, [0.5] + [0.0] * 39, True),
        ([0.0] * 40, [1.0] * 3 + [0.0] * 37, False),
        ([0.0] * 20, [0.0] * 20, False),  # no event in 20 items does not show that there are few
    ],
)
def test_a_rare_event_takes_as_many_items_as_its_margin_asks(
    before: list[float], after: list[float], passed: bool
) -> None:
    found = change_figures({"insult_rate_hostile": before}, {"insult_rate_hostile": after}, PARAMS)
    (checked,) = check_gates(found, [gate("insult_rate_hostile_change", "at_most", 0.15)])
    assert checked.passed is passed


def test_the_gates_of_params_yaml_pass_a_model_that_changed_nothing_and_wins() -> None:
    """And fail each harm alone, at least as large as its margin."""
    gates = load_params(ROOT / "params.yaml").evaluate.gates
    unchanged = figures_of_gates(gates)
    assert [gate.reason for gate in check_gates(unchanged, gates) if not gate.passed] == []
    for one in gates:
        harm = -one.limit if one.bound == "within" else one.limit
        harmed = unchanged | {f"{one.metric}{end}": harm + ci for end, ci in zip(ENDS, (0, -1e-3, 1e-3), strict=True)}
        assert [gate.name for gate in check_gates(harmed, gates) if not gate.passed] == [one.name]
        few = unchanged | {f"{one.metric}_num_items": one.min_items - 1}
        assert [gate.name for gate in check_gates(few, gates) if not gate.passed] == [one.name]


def figures_of_gates(gates: list[GateParams]) -> dict[str, Any]:
    """Of probes, what 40 items without a change show; a win rate (a gate with the bound above) of 0.6, else 0."""
    sizes = {name: [0.0] * 40 for name in TITLES}
    found: dict[str, Any] = change_figures(sizes, sizes, PARAMS)
    for one in gates:
        if one.metric not in found:
            value = 0.6 if one.bound == "above" else 0.0
            found |= {f"{one.metric}{end}": value for end in ENDS} | {f"{one.metric}_num_items": one.min_items}
    return found


@pytest.mark.parametrize(("better", "worse", "passing"), [(0.125, 0.125, 0.85), (0.05, 0.25, 0.08), (0.05, 0.3, 0.02)])
def test_how_often_a_model_passes_a_contrast(better: float, worse: float, passing: float) -> None:
    """The table of docs/values.md: shares of items that change; exact, over all samples of 40 items."""
    passed = 0.0
    for up in range(41):
        for down in range(41 - up):
            chance = (
                comb(40, up)
                * comb(40 - up, down)
                * better**up
                * worse**down
                * (1 - better - worse) ** (40 - up - down)
            )
            if chance > 1e-6:
                changes = [1.0] * up + [-1.0] * down + [0.0] * (40 - up - down)
                passed += chance * (paired_score_interval(changes, 1.0)[0] >= -0.25)
    assert passed == pytest.approx(passing, abs=0.006)


@pytest.mark.parametrize(("before", "after", "passing"), [(0.02, 0.02, 0.99), (0.04, 0.04, 0.91), (0.0, 0.1, 0.003)])
def test_how_often_a_model_passes_a_rare_event(before: float, after: float, passing: float) -> None:
    """The same table: 4 replies to each of 40 messages, 1,000 models."""
    rng = np.random.default_rng(4)
    passed = [
        paired_score_interval(((rng.binomial(4, after, 40) - rng.binomial(4, before, 40)) / 4).tolist(), 1.0)[1]
        <= 0.15
        for _ in range(1000)
    ]
    assert np.mean(passed) == pytest.approx(passing, abs=0.025)


def test_without_gates_there_is_nothing_to_fail() -> None:
    assert check_gates(METRICS, []) == []


@pytest.mark.parametrize(
    ("gates", "sentence"),
    [
        ([], "There are no gates"),
        (
            [Gate("a", "x", 1.0, 1.0, 1.0, "at_least", 0.0, 9, 5, True, "fine")],
            "passes all 1 gates and may be promoted",
        ),
        (
            [
                Gate(
                    "insults no more",
                    "x",
                    0.5,
                    0.5,
                    0.5,
                    "at_most",
                    0.0,
                    9,
                    5,
                    False,
                    "x is 0.5 and must be at most 0",
                )
            ],
            "fails 1 of 1 gates and is not promoted: insults no more (x is 0.5 and must be at most 0).",
        ),
    ],
)
def test_what_the_gates_say(gates: list[Gate], sentence: str) -> None:
    assert sentence in gate_sentence(gates)


def test_gates_are_shown_and_left_as_json(tmp_path: Path) -> None:
    asked = [
        gate("aligned.kl_to_sft", "at_most", 2.5),
        gate("change", "within", 0.2, 30),
        gate("none", "at_most", 1.0),
    ]
    params = PARAMS.model_copy(update={"gates": asked})
    gates = Gates(context(params=params, out=tmp_path))
    assert gates.of_all(METRICS) == {"gates_passed": 0}
    gates.publish(METRICS)
    rows = json.loads((tmp_path / "gates.json").read_text(encoding="utf-8"))
    assert rows[1] == {
        "name": "a", "metric": "change", "value": 0.02, "ci_low": -0.05, "ci_high": 0.125, "bound": "within",
        "limit": 0.2, "num_items": 40, "min_items": 30, "passed": True,
        "reason": "change is 0.02 (-0.05 to 0.125), and the whole interval must be within -0.2 to 0.2",
    }  # fmt: skip
    assert [row["passed"] for row in rows] == [False, True, False]
    shown = gates.shown(METRICS)
    assert (shown.tiles[0].value, shown.tiles[0].note) == ("1 of 3", "not promoted")
    table = shown.sections[0].tables[0]
    assert table.columns == ["Gate", "Value", "Limit", "Items", "Verdict"]
    assert [(row.label, row.note) for row in table.rows] == [
        ("A", "aligned.kl_to_sft"),
        ("A", "change"),
        ("A", "none"),
    ]
    assert [row.cells for row in table.rows] == [
        [Cell("3"), Cell("at most 2.5"), Cell("400", "at least 0"), Cell("failed")],
        [Cell("0.02", "-0.05 to 0.125"), Cell("within -0.2 to 0.2"), Cell("40", "at least 30"), Cell("passed")],
        [Cell("not measured"), Cell("at most 1"), Cell("not counted", "at least 0"), Cell("failed")],
    ]
