"""The reward model's report: its content, and that the smallest data gives one too."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.reward.report.build import reward_report
from groundup.reward.report.scores import ScoredPairs
from groundup.reward.report.uncertainty import PairErrors, ScoredChats, Uncertainty
from tests.reward.report.test_figures import PARAMS, row, scored

FILES = ["accuracy.png", "reliability.png", "report.json", "report.md"]
UNRATED = {"chosen_rating": None, "rejected_rating": None}


def pairs(num_pairs: int, share_right: float, kind: str = "rating") -> ScoredPairs:
    """The first share of the pairs is scored in the right order, by differences of 1 to 2."""
    rows = [
        row(
            f"good {i}",
            f"bad {i % 7}",
            kind=kind,
            chosen_id=f"c{i}",
            margin=0.2 + i % 5 / 10,
            chosen_rating=6.0 + i % 3,
        )
        for i in range(num_pairs)
    ]
    size = 1 + np.arange(num_pairs) / num_pairs
    signed = np.where(np.arange(num_pairs) < share_right * num_pairs, size, -size)
    rewards = np.stack([signed, np.zeros(num_pairs)], axis=1)
    return scored(rows, rewards, [[20 + i % 60, 30] for i in range(num_pairs)])


def report(
    folder: Path, uncertainty: Uncertainty | None = None, **splits: ScoredPairs
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Figures, JSON and Markdown; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = {split: splits[split].of_group("none") for split in ("val", "test")}
        metrics = reward_report(splits, moved, uncertainty, 3, 7, PARAMS, folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    text = (folder / "report.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "nan" not in markdown.split()
    return metrics, json.loads(text), markdown


def test_what_the_report_holds(tmp_path: Path) -> None:
    train, val, test = pairs(40, 0.9), pairs(60, 0.7), pairs(80, 0.75)
    metrics, saved, markdown = report(tmp_path, train=train, val=val, test=test)
    assert (metrics["train_accuracy"], metrics["val_accuracy"], metrics["heldout_accuracy"]) == (0.9, 0.7, 0.75)
    assert (metrics["num_pairs_train"], metrics["num_pairs_test"], metrics["num_pairs_too_long"]) == (40, 80, 3)
    assert metrics["bag_of_words_accuracy"] == 1.0  # the sides say good and bad
    assert metrics["temperature"] > 1  # claims 0.73 to 0.88, is right in 0.7
    assert metrics["brier_score_scaled"] < metrics["brier_score"]
    assert {name: saved[name] for name in metrics} == metrics
    assert metrics["num_steps"] == 7
    assert markdown.count("| 0 | - | - | - | - | - |") == 4  # groups that the data lack
    assert not any(isinstance(value, dict | list) for value in metrics.values())
    assert [bucket["num_pairs"] for bucket in saved["by_margin"]] == [0, 16, 16, 16, 32]
    assert [sum(bin["num_pairs"] for bin in bins) for bins in saved["reliability"].values()] == [80, 80]
    assert saved["not_measured"] == {}
    assert "\n| 0.25 to 0.35 | 16 | 23 |" in markdown
    assert "![Accuracy against confidence](reliability.png)" in markdown


def test_the_verdicts_are_those_of_the_figures(tmp_path: Path) -> None:
    test = pairs(80, 0.95)
    metrics, _, markdown = report(tmp_path, train=pairs(40, 1), val=pairs(40, 1), test=test)
    assert (metrics["beats_length_only"], metrics["beats_bag_of_words"]) == (True, False)
    assert "- It beats the rule that prefers the longer side: 0.950 against 0." in markdown
    assert "- It does not beat bag of words: 0.950 against 1.000, paired difference -0.050 (-" in markdown
    assert "pairs of kind" not in markdown  # one kind: nothing to tell apart


def test_each_kind_of_pair_is_judged_by_itself(tmp_path: Path) -> None:
    """Easy pairs of one kind must not hide the model's failure on the other kind."""
    easy, hard = pairs(160, 1.0, "given"), pairs(20, 0.4)
    both = ScoredPairs(easy.pairs + hard.pairs, np.concatenate([easy.means, hard.means]), np.zeros((180, 2)))
    metrics, saved, markdown = report(tmp_path, train=pairs(40, 1), val=pairs(40, 1), test=both)
    assert metrics["beats_length_only"]
    assert [(bucket["name"], bucket["heldout_accuracy"]) for bucket in saved["by_kind"]] == [
        ("given", 1.0),
        ("rating", 0.4),
    ]
    assert "On the 160 pairs of kind given alone (lower end 1.000) it beats the rule that prefers" in markdown
    (verdict,) = [line for line in markdown.splitlines() if "On the 20 pairs of kind rating alone" in line]
    assert verdict.count("does not beat") == 2


@pytest.mark.parametrize(
    ("difference", "error", "temperature"), [(1.0, 0.2689414, 0.01), (-1.0, 0.7310586, 100.0), (0.0, 0.0, None)]
)
def test_a_single_pair(difference: float, error: float, temperature: float | None, tmp_path: Path) -> None:
    one = scored([row("a", "b", **UNRATED)], [[difference, 0.0]], [[5, 5]])
    metrics, saved, markdown = report(tmp_path, train=one, val=one, test=one)
    assert metrics["rating_spearman"] is None
    assert saved["not_measured"]["rating_spearman"].startswith("people rated no test excerpt by itself")
    assert "people rated no test excerpt by itself" in markdown
    assert metrics["reward_length_spearman"] is None
    assert saved["not_measured"]["heldout_accuracy_ci_low"] == "the test pairs have fewer than 10 conversations"
    assert "It cannot be said whether it beats bag of words: it has no interval." in markdown
    assert metrics["temperature"] == temperature
    assert ("temperature" in saved["not_measured"]) == (temperature is None) == (metrics["brier_score_scaled"] is None)
    assert metrics["expected_calibration_error"] == pytest.approx(error, abs=1e-6)
    assert [bucket["num_pairs"] for bucket in saved["by_margin"]] == [0, 1, 0, 0, 0]
    assert "| 0.5 or more | 0 | 0 | - | - | - | - |" in markdown


def test_constant_ratings(tmp_path: Path) -> None:
    same = scored(
        [row(f"a{i}", f"b{i}", rejected_rating=8.0) for i in range(9)], [[i, 4] for i in range(9)], [[5, 6]] * 9
    )
    metrics, saved, _ = report(tmp_path, train=same, val=same, test=same)
    assert metrics["rating_spearman"] is None
    assert "all the same rating" in saved["not_measured"]["rating_spearman"]
    assert metrics["reward_length_spearman"] is not None


def test_uncertainty_has_a_section(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    inside, strange, usual = (
        ScoredChats(rng.normal(mean, 0.1, 80), [[str(i)] for i in range(80)]) for mean in (1.0, 1.2, 1.0)
    )
    test = pairs(80, 1.0)
    errors = PairErrors.of(test.means, np.ones((80, 2)))
    uncertainty = Uncertainty(errors, inside, {"strange": strange, "usual": usual})
    metrics, _, markdown = report(tmp_path, uncertainty, train=pairs(40, 1), val=pairs(40, 1), test=test)
    assert metrics["ood_auroc_strange_ci_low"] > 0.8
    assert metrics["uncertainty_error_spearman"] is None  # no pair is wrong
    assert "that are strange have provably" in markdown
    assert "not so: usual" in markdown
    assert f" | {metrics['ood_auroc_strange']:.3f} (" in markdown
    assert "does not provably help" in markdown
    assert "error: not measured, for all pairs are right or all are wrong." in markdown
    assert "\n| 80% | 0.000 | 0.000 |\n" in markdown


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        report(tmp_path / name, train=pairs(30, 0.8), val=pairs(30, 0.6), test=pairs(30, 0.7))
    assert [(tmp_path / "a" / name).read_bytes() for name in FILES] == [
        (tmp_path / "b" / name).read_bytes() for name in FILES
    ]
