"""The judge on planted ratings: it finds words that people like, not lengths, and says how far it can be trusted."""

import random
from typing import Any

import numpy as np
import pytest

from groundup.frame.params.judge import JudgeParams
from groundup.judge import RatingJudge, jackknife_error, partial_spearman, ranks

PARAMS = JudgeParams(
    seed=1,
    min_document_frequency=2,
    max_ngram=1,
    ridge_alpha=1.0,
    num_turns=[2, 4],
    num_folds=5,
    bootstrap_samples=100,
)
FILLER = ["the", "a", "of", "and", "to", "it", "that", "was", "he", "she", "they", "have", "with", "from", "some"]


def chat(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": "system", "content": "topic"}] + [
        {"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)
    ]


def planted(num: int, *, word: float, length: float, noise: float = 0.0) -> list[dict[str, Any]]:
    """Conversations of random length; the rating rises by `word` where people say lovely, and with the length."""
    rng = random.Random(0)
    rows = []
    for i in range(num):
        num_turns = rng.choice([2, 4, 8, 16])
        turns = [" ".join(rng.choices(FILLER, k=rng.randint(3, 12))) for _ in range(num_turns)]
        kind = i % 2
        turns = [f"{turn} {('dreadful', 'lovely')[kind]}" for turn in turns]
        rows.append(
            {"rating": 5 + word * kind + length * np.log(num_turns) + rng.gauss(0, noise), "messages": chat(*turns)}
        )
    return rows


def test_it_learns_the_word_and_leaves_out_the_length() -> None:
    judge = RatingJudge.fit(planted(80, word=2.0, length=1.0), PARAMS)
    bad, good = judge.score([chat("it was", "dreadful it was"), chat("it was", "lovely it was")])
    assert good - bad > 0.5
    short = chat("it was", "he was")
    long = chat("it was", " ".join(FILLER * 3))
    gap = np.diff(judge.score([short, long]))[0]
    assert abs(gap) < 0.2 * (good - bad)
    agreement = judge.agreement
    assert agreement.spearman > 0.8
    assert agreement.spearman_ci_low <= agreement.spearman <= agreement.spearman_ci_high
    assert agreement.length_spearman > 0.3
    assert agreement.num_conversations == 80


def test_ratings_of_nothing_but_length_leave_nothing_to_agree_with() -> None:
    judge = RatingJudge.fit(planted(80, word=0.0, length=1.0, noise=0.1), PARAMS)
    assert judge.agreement.length_spearman > 0.9
    assert judge.agreement.spearman_ci_low < 0.0 < judge.agreement.spearman_ci_high


def test_the_system_message_is_not_judged() -> None:
    judge = RatingJudge.fit(planted(40, word=2.0, length=0.0), PARAMS)
    spoken = chat("it was", "lovely")
    other = [{"role": "system", "content": "dreadful dreadful dreadful"}, *spoken[1:]]
    assert judge.score([spoken]) == judge.score([other])


def test_a_part_is_the_judge_without_its_fold() -> None:
    judge = RatingJudge.fit(planted(40, word=2.0, length=1.0), PARAMS)
    chats = [chat("it was", "lovely"), chat("", "")]
    by_part = judge.score_by_part(chats)
    assert by_part.shape == (1 + PARAMS.num_folds, 2)
    assert judge.score(chats).tolist() == by_part[0].tolist()
    assert (by_part[1:] != by_part[0]).all()
    assert np.isfinite(by_part).all()


def test_scores_are_on_the_scale_of_the_ratings() -> None:
    rows = planted(80, word=2.0, length=0.0)
    judge = RatingJudge.fit(rows, PARAMS)
    beginnings = [[m for m in row["messages"] if m["role"] != "system"][:2] for row in rows]
    assert judge.score(beginnings).mean() == pytest.approx(6.0, abs=0.05)


def test_what_nobody_rated_is_left_out() -> None:
    rows = planted(40, word=2.0, length=1.0)
    unrated = {"rating": None, "messages": chat("dreadful", "lovely")}
    judge, same = RatingJudge.fit(rows, PARAMS), RatingJudge.fit([unrated, *rows, unrated], PARAMS)
    assert same.agreement == judge.agreement
    assert same.weights.tobytes() == judge.weights.tobytes()


def test_the_same_rows_give_the_same_judge() -> None:
    rows = planted(40, word=1.0, length=1.0)
    first, second = (RatingJudge.fit(rows, PARAMS) for _ in range(2))
    assert first.weights.tobytes() == second.weights.tobytes()
    assert first.agreement == second.agreement


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least 20 rated conversations .* there are 0: raise its share in prepare.splits"),
        (planted(1, word=1.0, length=0.0), "at least 20 rated conversations .* there are 1"),
        ([{"rating": 7.0, "messages": chat("hi", "there")}] * 20, "ratings that are all 7.0"),
        (
            [{"rating": float(i % 3), "messages": chat(f"word{i}", f"other{i}")} for i in range(20)],
            "no word occurs in 2 of the 20 rated conversations",
        ),
        ([{"rating": float(i % 3), "messages": chat("", "")} for i in range(20)], "no word occurs in 2"),
    ],
)
def test_too_little_to_learn_from_is_said(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RatingJudge.fit(rows, PARAMS)


def test_conversations_of_one_length_can_be_judged() -> None:
    rows = [{"rating": float(i % 2), "messages": chat("it was", ("bad", "good")[i % 2])} for i in range(40)]
    judge = RatingJudge.fit(rows, PARAMS)
    assert judge.length_slopes.tolist() == [0.0] * 6
    assert judge.agreement.length_spearman == 0.0
    assert judge.agreement.spearman > 0.9


def test_conversations_that_all_say_the_same_leave_every_score_equal() -> None:
    rows = [{"rating": float(i % 3), "messages": chat("it was", "good")} for i in range(21)]
    judge = RatingJudge.fit(rows, PARAMS)
    assert judge.score([chat("it"), chat("good good was")]) == pytest.approx([1.0, 1.0])
    assert judge.agreement.spearman == 0.0


def test_ranks_share_ties() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_partial_spearman() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([2.0, 1.0, 4.0, 3.0, 5.0])
    nothing = np.zeros((5, 0))
    assert partial_spearman(a, b, nothing) == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)
    assert partial_spearman(a, -b, nothing) == pytest.approx(-0.8)
    # One given: (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2) (1 - r_bc^2)).
    c = np.array([1.0, 3.0, 2.0, 5.0, 4.0])
    r_ac, r_bc = (partial_spearman(x, c, nothing) for x in (a, b))
    expected = (0.8 - r_ac * r_bc) / ((1 - r_ac**2) * (1 - r_bc**2)) ** 0.5
    assert partial_spearman(a, b, c[:, None]) == pytest.approx(expected)
    assert partial_spearman(a, b, a[:, None]) == 0.0  # nothing left of a
    assert partial_spearman(a, np.ones(5), nothing) == 0.0


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.array([1.0, 4.0, 2.0, 7.0])
    without = [np.delete(values, i).mean() for i in range(4)]
    expected = values.std(ddof=1) / 2
    assert jackknife_error(np.array([values.mean(), *without])) == pytest.approx(expected)
