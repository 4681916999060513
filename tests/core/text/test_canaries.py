import re

from groundup.core.text.canaries import make_canaries, plant, secret_text
from groundup.runner.params.prepare import CanaryParams

PARAMS = CanaryParams(num_canaries=3, repetitions=[1, 4], num_digits=6)
ROWS = [{"id": f"{i}", "source": "x", "text": f"text {i}"} for i in range(50)]


def test_each_canary_has_a_name_and_a_secret_of_its_own() -> None:
    canaries = make_canaries(PARAMS, seed=1)
    assert [canary.repetitions for canary in canaries] == [1, 1, 1, 4, 4, 4]
    assert len({canary.prefix for canary in canaries}) == len({canary.secret for canary in canaries}) == 6
    assert all(re.fullmatch(r"\d{6}", canary.secret) for canary in canaries)
    assert canaries == make_canaries(PARAMS, seed=1)
    assert canaries != make_canaries(PARAMS, seed=2)


def test_there_are_names_for_as_many_as_params_allow() -> None:
    most = CanaryParams(num_canaries=20, repetitions=[1, 2, 3, 4], num_digits=4)
    assert len({canary.prefix for canary in make_canaries(most, seed=0)}) == 80


def test_a_secret_is_digit_by_digit() -> None:
    assert secret_text("407") == " 4 0 7"


def test_planted_between_the_rows_as_often_as_asked() -> None:
    canaries = make_canaries(PARAMS, seed=1)
    planted = list(plant(ROWS, len(ROWS), canaries, seed=1))
    assert [row for row in planted if row["source"] == "x"] == ROWS
    texts = [row["text"] for row in planted if row["source"] == "canaries"]
    for canary in canaries:
        assert texts.count(f"{canary.prefix}{secret_text(canary.secret)}.") == canary.repetitions
    assert len(texts) == 15
    places = [place for place, row in enumerate(planted) if row["source"] == "canaries"]
    assert max(places) - min(places) > 30  # copies in a row would be predicted from the previous one
    assert len({row["id"] for row in planted}) == len(planted)
    assert planted == list(plant(ROWS, len(ROWS), canaries, seed=1))


def test_they_may_stand_at_either_end() -> None:
    canaries = make_canaries(CanaryParams(num_canaries=20, repetitions=[4], num_digits=6), seed=1)
    planted = list(plant(ROWS[:2], 2, canaries, seed=1))
    assert planted[0]["source"] == planted[-1]["source"] == "canaries"
    assert len(planted) == 82
