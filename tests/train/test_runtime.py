"""What the stages share before they train."""

from groundup.train.runtime import draw


def test_the_seed_decides_what_is_drawn() -> None:
    rows = list(range(100))
    drawn = [draw(rows, 10, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(part == sorted(set(part)) and len(part) == 10 for part in drawn)
    assert draw(rows, 100, seed=1) == draw(rows, None, seed=1) == rows
