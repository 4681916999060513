"""Which conversations a reply's mean is over, and that mean, on literal values."""

import numpy as np
import pytest

from groundup.core.judging.others import LATEST, NUM_KINDS, draw_others, kind_of, mean_elsewhere


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(texts)]


def test_the_point_of_a_conversation_is_its_exchange_and_whether_a_question_was_asked() -> None:
    opening = {"role": "system", "content": "music?"}
    assert kind_of([]) == kind_of([opening]) == 0
    assert kind_of([opening, *said("Hi")]) == 2
    assert kind_of(said("Who?")) == 3
    assert kind_of(said("Who?", "I", "so")) == 4
    assert kind_of(said("a", "b", "c?")) == 5
    assert kind_of(said(*"abcdefg?")) == kind_of(said(*"abcdefghi?")) == 2 * LATEST + 1 == NUM_KINDS - 1


def test_others_are_of_the_same_kind_if_there_are_enough() -> None:
    conversations = [said(f"{i}") for i in range(20)] + [said("Who?")]
    others = draw_others(conversations, 3, seed=1)
    assert set(others) == set(range(NUM_KINDS))
    assert all(len(drawn) == 3 for drawn in others.values())
    assert {kind_of(drawn) for drawn in others[2]} == {2}
    assert len({drawn[0]["content"] for drawn in others[2]}) == 3
    assert {kind_of(drawn) for drawn in others[3]} <= {2, 3}  # one of this kind is too few
    assert others == draw_others(conversations, 3, seed=1) != draw_others(conversations, 3, seed=2)


def test_fewer_others_are_the_first_of_more() -> None:
    conversations = [said(f"{i}") for i in range(20)]
    assert draw_others(conversations, 2, seed=1)[2] == draw_others(conversations, 4, seed=1)[2][:2]


def test_a_token_is_compared_with_places_where_its_word_is_not_copied() -> None:
    log_probs = np.array([[-1.0, -2.0, -3.0], [-3.0, -6.0, -5.0]])
    counted = np.array([[True, True, False], [True, False, False]])
    # Both; the first alone; copied everywhere, so all places count.
    assert mean_elsewhere(log_probs, counted) == pytest.approx([-2.0, -2.0, -4.0])
    assert counted.tolist() == [[True, True, False], [True, False, False]]
