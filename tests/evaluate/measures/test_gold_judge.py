from typing import Any

import pytest

from groundup.evaluate.gold import Absent
from groundup.evaluate.measures.gold_judge import GoldJudge
from groundup.evaluate.shown import Cell, Shown
from tests.evaluate.measures.decoded import interval
from tests.evaluate.measures.made_up import context, gold, metrics

AGREEMENT = "0.70 (0.65 to 0.75)"


def shown(**changes: Any) -> Shown:
    return GoldJudge(context()).shown(metrics(**changes))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.51, 0.7, "beats the SFT model"),
        (0.45, 0.75, "cannot be told apart from the SFT model"),
        (0.3, 0.49, "loses to the SFT model"),
    ],
)
def test_the_gold_verdict_says_no_more_than_the_interval(low: float, high: float, verdict: str) -> None:
    sentence = shown(**gold(low, high)).sentences[0]
    assert sentence.startswith(f"Under the gold judge the aligned model {verdict}: 60\u00a0% (")
    assert "55\u00a0% (40 to 70\u00a0%) at equal length" in sentence
    assert "gold score moves by 0.50 (0.25 to 0.75)" in sentence


def test_a_judge_that_guesses_is_called_one() -> None:
    told = "The judge finds the reply that a person gave with an accuracy of"
    assert shown().sentences[1] == f"{told} {AGREEMENT} in held-out pairs; chance is 0.5."
    doubtful = shown(**interval("judge_agreement", 0.55, 0.5, 0.6)).sentences[1]
    assert "0.55 (0.50 to 0.60) in held-out pairs: not better than chance as far as the interval tells" in doubtful


def test_what_people_answered_is_the_reference() -> None:
    everything = shown()
    assert everything.sentences[2] == (
        "What people answered to 150 of these prompts has a gold score of 9.00 (8.50 to 9.50) and is preferred to the "
        "SFT model's reply in 80\u00a0% (75 to 85\u00a0%): the reference for all models."
    )
    assert everything.tiles[1].value == "80\u00a0%"
    unanswered = {name: value for name, value in metrics().items() if "human" not in name}
    without = GoldJudge(context()).shown(unanswered)
    assert (len(without.tiles), len(without.sentences), len(without.sections[0].bars)) == (1, 2, 2)


def test_every_gold_result_stands_beside_the_judges_agreement() -> None:
    everything = shown()
    assert everything.tiles[0].note == "45 to 75\u00a0%; judge's agreement 0.70"
    (row,) = everything.sections[0].tables[0].rows
    assert row.note == f"judge's agreement {AGREEMENT}"
    assert row.cells == [Cell(""), Cell("7.50", "7.00 to 8.00"), Cell("8.00", "7.50 to 8.50")]


def test_without_a_judge_there_are_no_figures_and_a_sentence_why() -> None:
    absent = GoldJudge(context(judge=Absent("too few")))
    assert absent.of_all({}) == {}
    assert absent.shown({}) == Shown(
        sentences=["There is no gold judge (too few): figures of reward are the reward model's own view."]
    )
