from typing import Any

from groundup.evaluate.gold import Absent
from groundup.evaluate.measures.gold_judge import GoldJudge
from groundup.evaluate.shown import Bar, Cell, Shown, Tile
from tests.evaluate.measures.decoded import interval
from tests.evaluate.measures.made_up import context, controls, gold, metrics

AGREEMENT = "0.70 (0.65 to 0.75)"


def shown(**changes: Any) -> Shown:
    return GoldJudge(context()).shown(metrics(**changes))


def test_a_win_stands_beside_the_replies_elsewhere_and_is_of_one_seed() -> None:
    everything = shown(**gold(0.51, 0.7))
    assert everything.sentences[0] == (
        "Under the gold judge the aligned model's reply wins against SFT's: 60\u00a0% (51 to 70\u00a0%) of 200 test "
        "prompts, in this run with one seed. No control wins: neither constant replies, nor an echo, nor a template."
    )
    assert everything.tiles == [
        Tile("Win rate against SFT, gold judge", "60\u00a0%", "51 to 70\u00a0%; in other conversations 50\u00a0%")
    ]
    assert "cannot be told apart from SFT's: 60" in shown(**gold(0.45, 0.7)).sentences[0]


def test_a_control_that_wins_takes_the_worth_from_every_win() -> None:
    said = shown(**(gold(0.51, 0.7) | controls(constant=0.6))).sentences[0]
    assert "But under this judge these win too, so it proves nothing: One reply to all, the best of 20." in said


def test_all_models_and_people_stand_side_by_side_with_their_intervals() -> None:
    table, _ = shown().sections[0].tables
    rows = {row.label: row.cells for row in table.rows}
    assert table.columns == ["", "Win rate against SFT", "Rating", "Gold score"]
    assert list(rows) == ["Base", "SFT", "Aligned", "People"]
    assert [rows[player][0].value for player in rows] == ["30\u00a0%", "50\u00a0%", "60\u00a0%", "80\u00a0%"]
    assert rows["Base"][0].bar == Bar(0.3, 0.25, 0.35, 0.5)
    assert [rows[player][1] for player in rows] == [
        Cell("850", "800 to 900"),
        Cell("1000", "fixed"),
        Cell("1070", "1010 to 1130"),
        Cell("1240", "1190 to 1290"),
    ]
    scores = ["7.00", "7.50", "8.00", "9.00"]
    assert [rows[player][2].value for player in rows] == scores
    unanswered = {name: value for name, value in metrics().items() if "human" not in name}
    tables = GoldJudge(context()).shown(unanswered).sections[0].tables
    assert [row.label for row in tables[0].rows] == ["Base", "SFT", "Aligned"]
    assert not [row.label for row in tables[1].rows if row.label.startswith("People")]


def test_a_control_that_does_what_it_must_not_is_marked() -> None:
    def marked(**changes: Any) -> dict[str, list[bool]]:
        _, table = shown(**changes).sections[0].tables
        return {
            row.label: [cell.failed for cell in row.cells] for row in table.rows if any(c.failed for c in row.cells)
        }

    constant, people = "One reply to all, the best of 20", interval("win_rate_human_vs_sft_gold", 0.5, 0.45, 0.55)
    assert marked() == {constant: [False, True]}  # the uncentred judge is fooled
    assert marked(**controls(constant=0.6)) == {constant: [True, True]}
    assert marked(**people) == {constant: [False, True], "People": [True, False]}
    moved = interval("win_rate_vs_sft_gold_moved", 0.6, 0.55, 0.65)
    assert marked(**moved)["Aligned, replies moved to other conversations"] == [True, False]


def test_controls_stand_beside_those_of_the_judge_that_can_be_fooled() -> None:
    _, table = shown().sections[0].tables
    rows = {row.label: [cell.value for cell in row.cells] for row in table.rows}
    assert table.columns == ["Win rate against SFT", "Gold judge", "Not centred"]
    assert rows["One reply to all, the best of 20"] == ["40\u00a0%", "70\u00a0%"]
    assert [row.note for row in table.rows[-4:]] == ["must not win"] * 4


def test_a_judge_that_guesses_is_called_one() -> None:
    told = "The judge finds the reply that a person gave with an accuracy of"
    assert shown().sentences[1] == f"{told} {AGREEMENT} in held-out pairs; chance is 0.5."
    doubtful = shown(**interval("judge_agreement", 0.55, 0.5, 0.6)).sentences[1]
    assert "0.55 (0.50 to 0.60) in held-out pairs: not better than chance as far as the interval tells" in doubtful


def test_every_gold_result_stands_beside_the_judges_agreement() -> None:
    (section,) = shown().sections
    assert f"finds the reply that a person gave in {AGREEMENT} of held-out pairs; chance is 0.5" in section.hint
    assert section.tables[0].rows[1].cells[2] == Cell("7.50", "7.00 to 8.00")


def test_the_intervals_are_said_to_leave_out_what_is_not_fitted_again() -> None:
    (method,) = shown().method
    assert (
        "all keep the words, the latent dimensions and the mean of this judge, so the intervals are a little" in method
    )


def test_without_a_judge_there_are_no_figures_and_a_sentence_why() -> None:
    absent = GoldJudge(context(judge=Absent("too few")))
    assert absent.of_all({}) == {}
    assert absent.shown({}) == Shown(
        sentences=["There is no gold judge (too few): figures of reward are the reward model's own view."]
    )
