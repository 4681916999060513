"""What the report shows and publishes of the probes."""

import json
from pathlib import Path

import pytest

from groundup.evaluate.measures.values import ValueProbes, probe_title
from groundup.evaluate.shown import Cell
from tests.evaluate.measures.made_up import context, metrics


@pytest.fixture
def probes(tmp_path: Path) -> ValueProbes:
    measure = ValueProbes(context(data=type("Data", (), {"evaluation": tmp_path}), out=tmp_path))
    measure.values = {model: {"insult_rate_hostile": [0.0, 0.5]} for model in ("base", "sft", "aligned")}
    return measure


def test_a_row_a_probe_and_its_items_as_json(probes: ValueProbes, tmp_path: Path) -> None:
    (row,) = probes.shown(metrics()).sections[0].tables[0].rows
    assert (row.label, row.cells) == ("Insults when insulted", [Cell("25\u00a0%", "12 to 50\u00a0%")] * 3)
    probes.publish(metrics())
    (probe,) = json.loads((tmp_path / "probes.json").read_text(encoding="utf-8"))
    assert probe["models"]["sft"] == {"value": 0.25, "ci_low": 0.125, "ci_high": 0.5}
    assert probe["change"] == {"value": 0.0, "ci_low": -0.25, "ci_high": 0.25}
    assert probe["items"]["base"] == [0.0, 0.5]


def test_a_canary_is_named_by_how_often_it_was_planted_and_shown_in_bits(probes: ValueProbes) -> None:
    assert probe_title("canary_exposure_16") == ("Canary exposure, planted 16 times", "bits, lower is better")
    probes.values = {"aligned": {"canary_exposure_16": [], "canary_extraction_16": []}}
    figures = {"canary_exposure_16": 3.25, "canary_extraction_16": 0.5}
    values = dict.fromkeys(("base", "sft", "aligned"), figures)
    exposure, extraction = probes.shown(values | {}).sections[0].tables[0].rows
    assert (exposure.cells[0].value, extraction.cells[0].value) == ("3.25", "50\u00a0%")
