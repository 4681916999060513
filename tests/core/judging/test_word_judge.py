import random
from typing import Any

import numpy as np
import pytest

from groundup.core.judging.judge import judge_error
from groundup.core.judging.pairs import reply_pairs
from groundup.core.judging.word_judge import WordJudge
from groundup.runner.params.judge import JudgeParams

PARAMS = JudgeParams(
    seed=0,
    max_turns=8,
    min_document_frequency=1,
    num_dimensions=8,
    copied_words=3,
    common_words=0.2,
    inverse_regularization=0.1,
    num_folds=4,
    num_resamples=10,
    bootstrap_samples=200,
)
TOPICS = [
    ["ship", "sail", "harbour", "wave", "storm", "anchor", "captain", "rope"],
    ["oven", "bread", "flour", "cake", "butter", "sugar", "yeast", "crust"],
    ["piano", "violin", "song", "choir", "melody", "concert", "rhythm", "tune"],
    ["tree", "forest", "leaf", "moss", "owl", "deer", "path", "fern"],
]


def talk(name: str, *said: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"id": name, "messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]}


def conversations(count: int, is_fitting: bool = True, seed: int = 0) -> list[dict[str, Any]]:
    """Replies match the topic of the question, or are of any topic."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        said = []
        for _ in range(2):
            topic = rng.choice(TOPICS)
            said.append(" ".join(rng.sample(topic, 3)))
            said.append(" ".join(rng.sample(topic if is_fitting else rng.choice(TOPICS), rng.randint(2, 4))))
        rows.append(talk(f"c{i}", *said))
    return rows


@pytest.fixture(scope="module")
def judge() -> WordJudge:
    return WordJudge.fit(conversations(120), PARAMS)


def chat(question: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


def test_it_finds_what_goes_with_what(judge: WordJudge) -> None:
    assert judge.agreement.accuracy > 0.7  # a quarter of the wrong replies are on the right topic
    assert judge.agreement.accuracy_ci_low > 0.65
    assert judge.agreement.num_conversations == 120
    right, wrong = judge.score(
        [chat("ship sail wave", "storm anchor rope"), chat("ship sail wave", "butter sugar yeast")]
    )
    assert right > wrong


def test_replies_that_fit_nothing_give_no_agreement() -> None:
    agreement = WordJudge.fit(conversations(120, is_fitting=False), PARAMS).agreement
    assert agreement.accuracy_ci_low < 0.5 < agreement.accuracy_ci_high


def test_an_echo_and_silence_are_worth_less_than_anything_that_a_person_said(judge: WordJudge) -> None:
    echo, silence, wrong = judge.score(
        [
            chat("ship sail wave", "Ship, sail wave"),
            chat("ship sail wave", ""),
            chat("ship sail wave", "butter sugar yeast"),
        ]
    )
    assert echo == silence == judge.floor[0] < wrong


def test_a_copied_word_counts_only_if_everybody_uses_it() -> None:
    rows = conversations(120)
    for row in rows[:60]:
        for message in row["messages"]:
            message["content"] += " so"
    judge = WordJudge.fit(rows, PARAMS)
    assert judge.words.is_common[judge.words.vectorizer.vocabulary_["so"]]
    assert judge.words.is_common.sum() == 1
    plain, copied, common = judge.words.read(
        [chat("ship so", "storm"), chat("ship so", "storm ship"), chat("ship so", "storm so")]
    ).reply.toarray()
    assert (copied > 0).tolist() == (plain > 0).tolist()
    assert (common > 0).sum() == 2


def test_a_reply_scores_zero_on_average_over_the_conversations_it_is_compared_with() -> None:
    """By definition for a reply whose words nobody said: "Nice" fits everything, so it fits nothing."""
    rows = conversations(120)
    for row in rows[::3]:
        row["messages"][1]["content"] += " nice"
    judge = WordJudge.fit(rows, PARAMS)
    chats = [[*pair.given[:-1], {"role": "assistant", "content": "nice"}] for pair in reply_pairs(rows, PARAMS)]
    kept = [each for each in chats if not any("nice" in message["content"] for message in each[:-1])]
    assert len(kept) > 100
    assert judge.score(kept).mean() == pytest.approx(0, abs=1e-9)
    assert judge.uncentred().score(kept).mean() != pytest.approx(0, abs=1e-4)


def test_a_reply_to_every_question_and_one_to_all_else_fit_nothing() -> None:
    """The mean is over conversations that end in the same kind of message."""
    rows = []
    for i, row in enumerate(conversations(160)):
        first, second = row["messages"][:2]
        asked = i % 2 == 0
        first["content"] += "?" if asked else ""
        second["content"] += " indeed" if asked else " hm"  # people answer questions with another word
        rows.append(row | {"messages": [first, second]})
    judge = WordJudge.fit(rows, PARAMS)
    for asked, word in ((True, "indeed"), (False, "hm")):
        before = [row["messages"][0] for i, row in enumerate(rows) if (i % 2 == 0) == asked]
        scores = judge.score([[first, {"role": "assistant", "content": word}] for first in before])
        assert scores.mean() == pytest.approx(0, abs=1e-9)


def test_the_mean_elsewhere_is_that_of_scoring_the_reply_in_every_conversation() -> None:
    """The closed form against a loop over conversations, for a reply without copied words."""
    rows = conversations(60)
    judge = WordJudge.fit(rows, PARAMS)
    plain = judge.uncentred()
    before = [pair.given[:-1] for pair in reply_pairs(rows, PARAMS)]
    reply = {"role": "assistant", "content": "storm"}
    without = [said for said in before if not any("storm" in message["content"] for message in said)]
    without = [said for said in without if len(said) == 1]
    everywhere = plain.score([[*said, reply] for said in without]).mean()
    here = [{"role": "user", "content": "ship sail"}, reply]
    assert judge.score([here])[0] == pytest.approx(plain.score([here])[0] - everywhere, abs=1e-9)


def test_more_of_the_same_is_not_better(judge: WordJudge) -> None:
    once, often = judge.score([chat("bread flour", "butter sugar"), chat("bread flour", "butter sugar " * 20)])
    assert often == pytest.approx(once, abs=1e-9)


def test_the_system_message_is_something_said_before(judge: WordJudge) -> None:
    opened = [{"role": "system", "content": "ship sail wave"}, *chat("hm", "storm anchor rope")]
    assert judge.score([opened])[0] != judge.score([chat("hm", "storm anchor rope")])[0]


def test_the_same_rows_give_the_same_judge() -> None:
    rows = conversations(40)
    chats = [chat("ship sail wave", "storm anchor rope"), chat("piano song", "owl deer")]
    np.testing.assert_array_equal(WordJudge.fit(rows, PARAMS).score(chats), WordJudge.fit(rows, PARAMS).score(chats))


def test_too_little_to_learn_from_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"at least 40 replies .* its 3 conversations hold 6: raise .*splits"):
        WordJudge.fit(conversations(3), PARAMS)
    with pytest.raises(ValueError, match="hold 0"):
        WordJudge.fit([], PARAMS)


def test_judges_of_resamples_say_how_far_the_judge_may_be_off(judge: WordJudge) -> None:
    chats = [chat("ship sail wave", "storm anchor rope"), chat("ship sail wave", "butter sugar yeast")]
    by_resample = judge.score_by_resample(chats)
    assert by_resample.shape == (1 + PARAMS.num_resamples, 2)
    np.testing.assert_array_equal(by_resample[0], judge.score(chats))
    assert len({round(value, 6) for value in by_resample[1:, 0]}) == PARAMS.num_resamples
    assert (by_resample[:, 0] > by_resample[:, 1]).all()


def test_judge_error_is_the_spread_over_resamples() -> None:
    assert judge_error(np.array([1.0, 4.0, 2.0, 9.0])) == pytest.approx(np.sqrt(38 / 3))
    assert judge_error(np.array([2.0, 2.0, 2.0])) == 0


def test_the_error_is_that_of_judges_of_other_conversations() -> None:
    """Judges of fresh conversations differ about as much as those of one judge's resamples."""
    quick, params = (
        PARAMS.model_copy(update={"num_folds": 2, "bootstrap_samples": 2, "num_resamples": n}) for n in (2, 30)
    )
    chats = [chat(*pair) for pair in (("ship sail", "storm rope"), ("oven cake", "owl deer"), ("song choir", "tune"))]
    fresh = [WordJudge.fit(conversations(60, seed=seed), quick).score(chats).mean() for seed in range(1, 21)]
    within = [
        judge_error(WordJudge.fit(conversations(60, seed=seed), params).score_by_resample(chats)[1:].mean(axis=1))
        for seed in (30, 31)
    ]
    assert 0.5 < np.mean(within) / np.std(fresh, ddof=1) < 2
