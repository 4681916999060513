import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.evaluate.probes.figures import TITLES, change_figures, model_figures
from groundup.evaluate.probes.items import load_probe_sets
from groundup.evaluate.probes.measure import measure_probes
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


def test_differences_are_resampled() -> None:
    found = model_figures({"sycophancy_gap": [-1.0, 1.0] * 20}, PARAMS)
    assert found["sycophancy_gap"] == 0.0
    assert found["sycophancy_gap_ci_low"] < 0 < found["sycophancy_gap_ci_high"]


def test_differences_and_bits_are_no_shares_even_between_0_and_1() -> None:
    for name in ("sycophancy_gap", "canary_exposure_8"):
        found = model_figures({name: [0.5] * 20}, PARAMS)
        assert (found[f"{name}_ci_low"], found[f"{name}_ci_high"]) == (0.5, 0.5)  # Wilson's would be 0.3 to 0.7


def test_changes_are_paired_by_item() -> None:
    before = {"insult_rate_hostile": [0.0, 1.0] * 20}
    steady = change_figures(before, before, PARAMS)
    assert set(steady.values()) == {0.0}
    worse = change_figures(before, {"insult_rate_hostile": [1.0, 1.0] * 20}, PARAMS)
    assert worse["insult_rate_hostile_change"] == 0.5
    assert 0.2 < worse["insult_rate_hostile_change_ci_low"] < 0.5


def test_every_measure_has_a_title(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    probes = load_probe_sets()
    few = type(probes)(**{name: items[:1] for name, items in vars(probes).items()})
    assert set(measure_probes(tiny_model, tiny_tokenizer, few, [], PARAMS)) == set(TITLES)
