import pytest

from groundup.evaluate.measures.rewards import Rewards
from groundup.evaluate.shown import Bar, Cell
from tests.evaluate.measures.made_up import context, metrics


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.55, 0.65, "Under the reward model the aligned model beats the SFT model"),
        (0.45, 0.65, "Under the reward model the aligned model cannot be told apart from the SFT model"),
        (0.3, 0.45, "Under the reward model the aligned model loses to the SFT model"),
    ],
)
def test_the_headline_says_no_more_than_the_interval(low: float, high: float, verdict: str) -> None:
    win, reward, style = Rewards(context()).shown(metrics(low, high)).sentences
    assert win.startswith(f"{verdict}: its reply is preferred in 60\u00a0% of 200 held-out prompts")
    assert "went from 0.25 to 0.75, at a distance of 3.50 nats per reply" in reward
    assert style == (
        "A reply has 12.2 tokens on average (SFT 12.2; change 8\u00a0% (4 to 12\u00a0%)), 96\u00a0% of them end by "
        "themselves (SFT 96\u00a0%), and 70\u00a0% of the bigrams in 500 tokens are distinct (SFT 70\u00a0%; change "
        "-7\u00a0% (-8 to -6\u00a0%))."
    )


def test_a_change_that_was_not_measured_is_not_told() -> None:
    figures = metrics()
    del figures["distinct_2_change"]
    assert Rewards(context()).shown(figures).sentences[2].endswith("tokens are distinct (SFT 70\u00a0%).")


def test_every_tile_has_what_to_compare_it_with() -> None:
    shown = Rewards(context()).shown(metrics())
    assert [(tile.value, tile.note) for tile in shown.tiles] == [
        ("60\u00a0%", "55 to 65\u00a0%; a tie is 50\u00a0%"),
        ("0.75", "SFT 0.25, base -1.00"),
    ]


def test_a_row_a_figure_and_no_interval_that_is_a_point() -> None:
    (section,) = Rewards(context()).shown(metrics()).sections
    table, wins = section.tables
    rows = {row.label: row.cells for row in table.rows}
    assert list(rows) == ["Reward", "KL to SFT", "Length", "Distinct-2", "End-of-turn rate"]
    assert rows["Reward"][2] == Cell("0.75", "0.65 to 0.85")
    assert rows["Distinct-2"][2] == Cell("0.70", "0.65 to 0.75")
    assert rows["KL to SFT"] == [Cell("9.00"), Cell("0.00"), Cell("3.50")]
    assert [row.cells for row in wins.rows] == [
        [Cell("60\u00a0%", "55 to 65\u00a0%", Bar(0.6, 0.55, 0.65, 0.5))],
        [Cell("90\u00a0%", "85 to 95\u00a0%", Bar(0.9, 0.85, 0.95, 0.5))],
    ]
