"""Values, ratings and gates in the report."""

import json
from pathlib import Path

import pytest

from groundup.evaluate.gates import Gate
from groundup.evaluate.report.build import write_report
from groundup.evaluate.report.values import gate_sentence, probe_title, shown
from tests.evaluate.test_report import inputs


def test_values_ratings_and_gates_are_shown_and_left_as_json(tmp_path: Path) -> None:
    write_report(inputs(), tmp_path)
    page, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    failed = "fails 1 of 1 gates and is not promoted: insults no more (x is 0.5 and must be at most 0)."
    assert failed in page
    assert failed in text
    assert "| Iteration 5 | 1050 [1020 to 1080] | 7 |" in text
    assert "| Insults no more | failed | x is 0.5 and must be at most 0 |" in text
    assert text.count("25\u00a0% [12 to 50\u00a0%]") == 3
    (probe,) = json.loads((tmp_path / "probes.json").read_text(encoding="utf-8"))
    assert probe["models"]["sft"] == {"value": 0.25, "ci_low": 0.125, "ci_high": 0.5}
    assert probe["change"] == {"value": 0.0, "ci_low": -0.25, "ci_high": 0.25}
    (gate,) = json.loads((tmp_path / "gates.json").read_text(encoding="utf-8"))
    assert set(gate) == {"name", "metric", "value", "limit", "passed", "reason"}
    assert gate["passed"] is False
    (judged,) = json.loads((tmp_path / "ratings.json").read_text(encoding="utf-8"))
    assert (judged["judge"], judged["ratings"][0]["player"]) == ("gold", "iteration_5")


@pytest.mark.parametrize(
    ("gates", "sentence"),
    [
        ([], "There are no gates"),
        ([Gate("a", "x", 1.0, 0.0, True, "fine")], "passes all 1 gates and may be promoted"),
    ],
)
def test_what_the_gates_say(gates: list[Gate], sentence: str) -> None:
    assert sentence in gate_sentence(gates)


def test_a_canary_is_named_by_how_often_it_was_planted() -> None:
    assert probe_title("canary_exposure_16") == ("Canary exposure, planted 16 times", "bits, lower is better")
    assert shown("canary_exposure_16", 3.25) == "3.25"
    assert shown("canary_extraction_16", 0.5) == "50\u00a0%"
