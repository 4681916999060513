import numpy as np
import pytest

from groundup.evaluate.pairwise.bradley_terry import ELO, bradley_terry


def test_two_players_are_as_far_apart_as_their_odds() -> None:
    wins = np.array([[[0.0, 300.0], [100.0, 0.0]]])
    strong, weak = bradley_terry(wins)[0]
    assert strong - weak == pytest.approx(np.log(3), abs=1e-3)
    assert strong + weak == pytest.approx(0, abs=1e-6)


def test_400_points_are_odds_of_ten() -> None:
    strong, weak = bradley_terry(np.array([[[0.0, 1000.0], [100.0, 0.0]]]))[0]
    assert ELO * (strong - weak) == pytest.approx(400, abs=1)


def test_known_strengths_come_back() -> None:
    strengths = np.array([1.2, 0.3, -0.4, -1.1])
    odds = 1 / (1 + np.exp(strengths[None] - strengths[:, None]))
    wins = 1000 * odds * (1 - np.eye(4))
    assert bradley_terry(wins[None])[0] == pytest.approx(strengths, abs=1e-3)


def test_who_never_met_is_compared_through_others() -> None:
    wins = np.zeros((1, 3, 3))
    wins[0, 0, 1], wins[0, 1, 0] = 200, 100
    wins[0, 1, 2], wins[0, 2, 1] = 300, 100
    first, _, last = bradley_terry(wins)[0]
    assert first - last == pytest.approx(np.log(2) + np.log(3), abs=1e-2)


def test_who_always_wins_stays_finite_and_who_never_plays_in_the_middle() -> None:
    wins = np.zeros((1, 3, 3))
    wins[0, 0, 1] = 50
    winner, loser, idle = bradley_terry(wins)[0]
    assert 2 < winner < 20
    assert loser == pytest.approx(-winner)
    assert idle == pytest.approx(0, abs=1e-6)


def test_rows_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(0)
    wins = rng.integers(1, 40, (5, 4, 4)) * (1.0 - np.eye(4))
    together = bradley_terry(wins)
    for row, alone in zip(together, wins, strict=True):
        assert row == pytest.approx(bradley_terry(alone[None])[0], abs=1e-6)
