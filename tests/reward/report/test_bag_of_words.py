"""The bag-of-words baseline learns a planted word, and nothing from data without one."""

import warnings

import numpy as np
import pytest

from groundup.reward.report.bag_of_words import BagOfWords

WORDS = ["sea", "town", "music", "green", "old", "paper", "river", "stone"]


def planted(num_pairs: int, good: str, seed: int) -> list[tuple[str, str]]:
    """Random words; the chosen side has one more, so has the rejected one."""
    rng = np.random.default_rng(seed)
    return [
        (" ".join([*rng.choice(WORDS, 6), good]), " ".join([*rng.choice(WORDS, 6), "perhaps"]))
        for _ in range(num_pairs)
    ]


def accuracy(scores: np.ndarray) -> float:
    return float((scores[:, 0] > scores[:, 1]).mean())


def test_it_learns_a_planted_word() -> None:
    words = BagOfWords.fit(planted(100, "lovely", 0), planted(40, "lovely", 1), [0.1, 1.0])
    assert accuracy(words.score_pairs(planted(50, "lovely", 2))) == 1.0
    index = words.vectorizer.vocabulary_
    assert words.weights[index["lovely"]] > max(words.weights[index[word]] for word in WORDS)
    assert words.weights[index["perhaps"]] < min(words.weights[index[word]] for word in WORDS)


def test_swapping_the_sides_swaps_the_verdict() -> None:
    train = planted(30, "lovely", 0)
    words = BagOfWords.fit(train, train, [1.0])
    swapped = words.score_pairs([(rejected, chosen) for chosen, rejected in train])
    assert swapped[:, ::-1].tolist() == words.score_pairs(train).tolist()
    turned = BagOfWords.fit([(rejected, chosen) for chosen, rejected in train], train, [1.0])
    assert turned.weights == pytest.approx(-words.weights, abs=1e-6)


def test_the_strength_is_the_best_on_val_and_of_equals_the_lowest() -> None:
    """One pair prefers a rare word, many prefer another. Only weak regularization follows the one."""
    train = [("lovely sea", "perhaps sea")] * 60 + [("perhaps rare", "lovely")]
    val = [("perhaps rare", "lovely")]
    assert BagOfWords.fit(train, val, [100.0, 0.001]).strength == 100.0
    assert BagOfWords.fit(train, [("lovely", "perhaps")], [10.0, 0.1, 1.0]).strength == 0.1


def test_the_same_inputs_give_the_same_weights() -> None:
    first, second = (BagOfWords.fit(planted(40, "lovely", 0), planted(9, "lovely", 1), [1.0]) for _ in range(2))
    assert first.weights.tolist() == second.weights.tolist()


@pytest.mark.parametrize(
    "pair",
    [("yes", "no"), ("a", "a"), ("!!", "?"), ("\u597d", "\U0001f642")],
    ids=["one pair", "equal sides", "marks only", "no Latin letter"],
)
def test_the_smallest_data_is_no_error(pair: tuple[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = BagOfWords.fit([pair], [pair], [1.0])
        scores = words.score_pairs([pair, ("never seen", "nor this")])
    assert (scores[0, 0] > scores[0, 1]) == (pair[0] != pair[1])
    assert scores[1].tolist() == [0.0, 0.0]
