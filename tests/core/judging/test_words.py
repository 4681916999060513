import pytest

from groundup.core.judging.words import are_own, common_words, lower_words, own_words


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        ("I like the sea too", ["too"]),  # "i like the sea" is three words and more of an earlier turn
        ("I like rain", ["i", "like", "rain"]),  # two words in a row do not count as copied
        ("why?", []),  # all of a turn
        ("why not?", ["why", "not", "?"]),
        ("", []),
    ],
)
def test_words_that_were_said_before_in_a_row_do_not_count(reply: str, kept: list[str]) -> None:
    assert own_words(reply, [["i", "like", "the", "sea"], ["why", "?"]], run=3) == kept


def test_words_are_lower_case_and_marks_of_questions_and_shouts_count() -> None:
    assert lower_words("Why NOT, then?! Ok.") == ["why", "not", "then", "?!", "ok"]


def test_places_of_copied_words() -> None:
    said = [lower_words("I like the sea")]
    assert are_own(lower_words("so I like the sea so"), said, run=3) == [True, False, False, False, False, True]


def test_common_words_are_in_more_than_a_share_of_different_turns() -> None:
    turns = ["I see", "I do do", "you do", "you", "you"]
    assert common_words(turns, 0.25) == {"i", "you", "do"}  # 2 of the four different turns each
    assert common_words(turns, 0.5) == set()
