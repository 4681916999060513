from groundup.core.judging.pairs import reply_pairs
from tests.core.judging.test_word_judge import PARAMS, talk


def test_wrong_replies_are_of_like_length_and_from_other_conversations() -> None:
    rows = [talk(f"c{i}", "hi", " ".join(f"w{i}x{j}" for j in range(1 + i % 50))) for i in range(300)]
    pairs = reply_pairs(rows, PARAMS)
    assert len(pairs) == 300
    for pair in pairs:
        given, wrong = (len(side[-1]["content"].split()) for side in (pair.given, pair.wrong))
        assert abs(given - wrong) <= 6
        assert pair.given[:-1] == pair.wrong[:-1]
        assert pair.given[-1] != pair.wrong[-1]


def test_turns_behind_the_limit_and_turns_without_words_are_left_out() -> None:
    rows = [talk(f"c{i}", *(f"turn {i} {j}" for j in range(12))) for i in range(10)]
    assert len(reply_pairs(rows, PARAMS)) == 10 * 4  # turns 2, 4, 6 and 8
    rows[0]["messages"][1]["content"] = "..."
    assert len(reply_pairs(rows, PARAMS)) == 10 * 4 - 1
