from typing import Any

from groundup.evaluate.gold import Absent
from groundup.evaluate.measures.gold_judge import GoldJudge
from groundup.evaluate.shown import Cell, Shown, Tile
from tests.evaluate.measures.decoded import interval
from tests.evaluate.measures.made_up import context, controls, gold, metrics

AGREEMENT = "0.70 (0.65 to 0.75)"


def shown(**changes: Any) -> Shown:
    return GoldJudge(context()).shown(metrics(**changes))


def test_a_win_stands_beside_the_replies_elsewhere_and_is_of_one_seed() -> None:
    everything = shown(**gold(0.51, 0.7))
    assert everything.sentences[0] == (
        "Under the gold judge the aligned model's reply wins against SFT's: 60\u00a0% (51 to 70\u00a0%) of 200 test "
        "prompts, in this run with one seed. Nothing that must lose wins."
    )
    assert everything.tiles == [
        Tile("Win rate against SFT, gold judge", "60\u00a0%", "51 to 70\u00a0%; in other conversations 50\u00a0%")
    ]
    assert "cannot be told apart from SFT's: 60" in shown(**gold(0.45, 0.7)).sentences[0]


def test_a_control_that_wins_takes_the_worth_from_every_win() -> None:
    said = shown(**(gold(0.51, 0.7) | controls(constant=0.6))).sentences[0]
    assert "But under this judge these win too, so it proves nothing: One reply to all, the best of 20." in said


def test_controls_stand_beside_those_of_the_judge_that_can_be_fooled() -> None:
    _, table = shown().sections[0].tables
    rows = {row.label: [cell.value for cell in row.cells] for row in table.rows}
    assert table.columns == ["Win rate against SFT", "Gold judge", "The same judge, not centred"]
    assert rows["One reply to all, the best of 20"] == ["40\u00a0%", "70\u00a0%"]
    assert [row.note for row in table.rows[-4:]] == ["must lose"] * 4


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
