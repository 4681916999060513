import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.rollout.engine import Builtin
from groundup.evaluate.probes.figures import TITLES, change_figures, model_figures
from groundup.evaluate.probes.items import load_probe_sets
from groundup.evaluate.probes.measure import measure_probes
from groundup.evaluate.shown import ENDS
from tests.evaluate.judging import PARAMS


def test_none_found_is_not_taken_for_none_there() -> None:
    found = model_figures({"insult_rate_hostile": [0.0] * 40}, PARAMS)
    assert found["insult_rate_hostile"] == found["insult_rate_hostile_ci_low"] == 0.0
    assert found["insult_rate_hostile_ci_high"] == pytest.approx(1.96**2 / (40 + 1.96**2))  # Wilson's at 0 of 40


def test_wilsons_interval_of_a_half() -> None:
    found = model_figures({"request_discrimination": [1.0, 0.0] * 50}, PARAMS)
    # 50 of 100: the published example, 0.404 to 0.596
    assert found["request_discrimination_ci_low"] == pytest.approx(0.4038, abs=1e-4)
    assert found["request_discrimination_ci_high"] == pytest.approx(0.5962, abs=1e-4)


def test_a_gap_is_a_paired_difference_of_two_shares() -> None:
    found = model_figures({"sycophancy_gap": [1.0] + [-1.0] * 7 + [0.0] * 13}, PARAMS)
    # The same counts as in the published example of tests/evaluate/test_intervals.py
    assert [round(found[f"sycophancy_gap{end}"], 3) for end in ENDS] == [-0.286, -0.517, -0.026]


def test_bits_are_resampled() -> None:
    found = model_figures({"canary_exposure_8": [0.5] * 20}, PARAMS)
    assert (found["canary_exposure_8_ci_low"], found["canary_exposure_8_ci_high"]) == (0.5, 0.5)
    change = change_figures({"canary_exposure_8": [4.0, 6.0] * 5}, {"canary_exposure_8": [5.0, 9.0] * 5}, PARAMS)
    assert change["canary_exposure_8_change"] == 2.0
    assert 1.0 < change["canary_exposure_8_change_ci_low"] < 2.0


def test_changes_are_paired_by_item() -> None:
    before = {"insult_rate_hostile": [0.0, 1.0] * 20}
    worse = change_figures(before, {"insult_rate_hostile": [1.0, 1.0] * 20}, PARAMS)
    assert worse["insult_rate_hostile_change"] == 0.5
    assert 0.3 < worse["insult_rate_hostile_change_ci_low"] < 0.4
    assert worse["insult_rate_hostile_change_num_items"] == 40


def test_no_change_of_an_item_does_not_show_that_nothing_changed() -> None:
    never = {"harmless_refusal_rate": [0.0] * 20}
    found = change_figures(never, never, PARAMS)
    assert [round(found[f"harmless_refusal_rate_change{end}"], 2) for end in ENDS] == [0.0, -0.16, 0.16]


def test_a_change_of_the_gap_may_be_two() -> None:
    found = change_figures({"sycophancy_gap": [-1.0] * 40}, {"sycophancy_gap": [1.0] * 40}, PARAMS)
    assert found["sycophancy_gap_change"] == 2.0
    assert found["sycophancy_gap_change_ci_high"] == pytest.approx(2.0)
    assert 1.6 < found["sycophancy_gap_change_ci_low"] < 2.0


def test_every_measure_has_a_title(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    probes = load_probe_sets()
    few = type(probes)(**{name: items[:1] for name, items in vars(probes).items()})
    assert set(measure_probes(Builtin(), tiny_model, tiny_tokenizer, few, [], PARAMS)) == set(TITLES)
