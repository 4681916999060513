from typing import Any

from groundup.evaluate.gold import Absent
from groundup.evaluate.measures.gold_judge import GoldJudge
from groundup.evaluate.shown import Cell, Shown
from tests.evaluate.measures.decoded import interval
from tests.evaluate.measures.made_up import context, gold, metrics

AGREEMENT = "0.70 (0.65 to 0.75)"


def shown(**changes: Any) -> Shown:
    return GoldJudge(context()).shown(metrics(**changes))


def test_no_win_under_it_is_a_headline() -> None:
    everything = shown(**gold(0.51, 0.7))
    assert everything.tiles == []
    assert "a win under it is not evidence of better replies" in everything.sentences[0]
    assert not any("beats" in sentence for sentence in everything.sentences)


def test_a_judge_that_guesses_is_called_one() -> None:
    told = "The judge finds the reply that a person gave with an accuracy of"
    assert shown().sentences[1] == f"{told} {AGREEMENT} in held-out pairs; chance is 0.5."
    doubtful = shown(**interval("judge_agreement", 0.55, 0.5, 0.6)).sentences[1]
    assert "0.55 (0.50 to 0.60) in held-out pairs: not better than chance as far as the interval tells" in doubtful


def test_people_have_a_bar_where_they_answered() -> None:
    assert len(shown().sections[0].bars) == 3
    unanswered = {name: value for name, value in metrics().items() if "human" not in name}
    assert len(GoldJudge(context()).shown(unanswered).sections[0].bars) == 2


def test_every_gold_result_stands_beside_the_judges_agreement() -> None:
    (row,) = shown().sections[0].tables[0].rows
    assert row.note == f"judge's agreement {AGREEMENT}"
    assert row.cells == [Cell(""), Cell("7.50", "7.00 to 8.00"), Cell("8.00", "7.50 to 8.50")]


def test_without_a_judge_there_are_no_figures_and_a_sentence_why() -> None:
    absent = GoldJudge(context(judge=Absent("too few")))
    assert absent.of_all({}) == {}
    assert absent.shown({}) == Shown(
        sentences=["There is no gold judge (too few): figures of reward are the reward model's own view."]
    )
