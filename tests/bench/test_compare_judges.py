"""Candidates for the gold judge: a judge that can be fooled is, and the figures are those of literal scores."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from bench.compare_judges.folds import MOVED, Fold, difference, measure, num_controls_that_win, rates, split
from bench.compare_judges.likelihood import (
    CACHE_WEIGHT,
    NOTHING,
    NUM_OTHERS,
    CachedNgrams,
    CopiedWords,
    LikelihoodRatio,
    line,
    others_of,
)
from bench.compare_judges.page import page
from bench.compare_judges.products import Products, Sum
from groundup.core.judging.judge import Chat, Floats
from groundup.core.judging.pairs import ReplyPair
from groundup.evaluate.controls import CONSTANTS
from tests.core.judging.test_word_judge import PARAMS, conversations, talk


class Scores:
    """By a function of the chat."""

    def __init__(self, score: Callable[[Chat], float]) -> None:
        self._score = score

    def score(self, chats: Sequence[Chat]) -> Floats:
        return np.array(list(map(self._score, chats)))


def pair(name: str, said: str, given: str, wrong: str) -> ReplyPair:
    before = [{"role": "user", "content": said}]
    chats = [[*before, {"role": "assistant", "content": reply}] for reply in (given, wrong)]
    return ReplyPair(chats[0], chats[1], name)


PAIRS = [pair("a", "one", "right", "left"), pair("b", "two", "left", "right"), pair("c", "three", "right", "up")]
FOLDS = [Fold([], PAIRS[2:], PAIRS[:2], [1, 0]), Fold([], PAIRS[:2], PAIRS[2:], [0])]


def test_columns_of_literal_scores(tmp_path: Path) -> None:
    worth = {"right": 2.0, "left": 1.0, "up": 2.0, "Nice": 3.0, "one": 2.0, "two": 2.0, "three": 1.0}
    measured = measure(tmp_path / "a", lambda rows: Scores(lambda chat: worth.get(chat[-1]["content"], 0)), FOLDS)
    assert measured["finds"] == [1, 0, 0.5]
    assert measured[MOVED] == [1, 0, 0.5]  # it reads no conversation, so a move changes nothing
    assert measured["constant"] == measured["two_constants"] == [1, 1, 1]
    assert measured["echo"] == [1, 0.5, 0]
    assert measured["template"] == [0, 0, 0]
    found = rates(measured, FOLDS, PARAMS)
    assert found["finds"].value == 0.5
    assert (found["constant"].low, found["constant"].high) == (1, 1)
    assert num_controls_that_win(found) == 2
    kept = measure(tmp_path / "a", lambda rows: pytest.fail("measured again"), FOLDS)
    assert kept == measured
    nobody = measure(tmp_path / "b", lambda rows: Scores(lambda chat: 0), FOLDS)
    assert difference(measured, nobody, FOLDS, PARAMS).value == 0
    assert num_controls_that_win(rates(nobody, FOLDS, PARAMS)) == 0


def test_a_judge_that_loves_a_constant_is_fooled_and_one_that_reads_is_not(tmp_path: Path) -> None:
    folds = split(conversations(120), PARAMS, 3, 40)
    loves = Scores(lambda chat: float(chat[-1]["content"] == CONSTANTS[5]))
    found = rates(measure(tmp_path / "loves", lambda rows: loves, folds), folds, PARAMS)
    assert found["constant"].value == 1
    assert found["finds"].value == 0.5
    built_in = Products(PARAMS, counts_copied=False, is_centred=True)
    found = rates(measure(tmp_path / "built-in", built_in, folds), folds, PARAMS)
    assert found["finds"].low > 0.6
    assert found[MOVED].low < 0.5 < found[MOVED].high
    assert num_controls_that_win(found) == 0


def test_folds_share_no_conversation_and_a_reply_moves_to_another_one() -> None:
    rows = conversations(60)
    folds = split(rows, PARAMS, 3, 10)
    held_out = [{pair.conversation_id for pair in fold.held_out} for fold in folds]
    assert sum(map(len, held_out)) == len(set.union(*held_out)) == 60
    for fold, names in zip(folds, held_out, strict=True):
        assert not names & {row["id"] for row in fold.fitted}
        texts = {m["content"] for row in rows if row["id"] in names for m in row["messages"]}
        assert all(pair.wrong[-1]["content"] in texts for pair in fold.held_out)
        assert all(
            pair.conversation_id != fold.held_out[there].conversation_id
            and len(pair.given) == len(fold.held_out[there].given)
            for pair, there in zip(fold.held_out, fold.moves, strict=True)
        )


def test_copied_words_are_those_of_runs_and_of_rare_words_said_before() -> None:
    copied = CopiedWords(frozenset({"i", "the"}), run=3)
    chat = talk("a", "I like the old ship", "i like the sea, the ship")["messages"]
    assert copied(chat) == {"i", "like", "ship"}  # "the" is also said on its own
    assert copied(talk("a", "I see the ship", "the ship, i say")["messages"]) == {"ship"}


def test_the_cache_adds_the_share_of_what_was_said(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    ngrams = CachedNgrams.of(conversations(60), tiny_tokenizer)
    bos = tiny_tokenizer.bos_token_id
    (alone,), (said,) = ngrams([[bos]], [[7]]), ngrams([[bos, 7, 7, 8, 9]], [[7]])
    assert alone.tolist() == ngrams.ngrams.log_probs([bos, 7]).tolist()
    without_cache = np.exp(ngrams.ngrams.log_probs([bos, 7, 7, 8, 9, 7])[-1])
    assert np.exp(said) == pytest.approx([CACHE_WEIGHT * 0.5 + (1 - CACHE_WEIGHT) * without_cache])


def test_tokens_of_copied_words_do_not_count(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    def likes_repeats(before: Sequence[list[int]], replies: Sequence[list[int]]) -> list[Floats]:
        return [np.array([float(t in said) for t in reply]) for said, reply in zip(before, replies, strict=True)]

    chats = [talk("a", "storm", reply)["messages"] for reply in ("storm", "storm moss")]
    storm, both = (len(line(tiny_tokenizer, text)) for text in ("storm", "storm moss"))
    plain = LikelihoodRatio(likes_repeats, tiny_tokenizer).score(chats)
    assert plain[0] == storm
    without = LikelihoodRatio(likes_repeats, tiny_tokenizer, CopiedWords(frozenset(), run=3)).score(chats)
    assert without[0] == NOTHING
    assert 0 < without[1] < plain[1] < both


def test_a_reply_that_is_as_likely_anywhere_scores_zero_when_centred(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    rows = conversations(60)
    others = others_of(rows, PARAMS)
    assert all(len(before) == NUM_OTHERS for before in others.values())

    def same_anywhere(before: Sequence[list[int]], replies: Sequence[list[int]]) -> list[Floats]:
        return [np.arange(len(reply), dtype=np.float64) for reply in replies]

    chats = [talk("a", "ship", reply)["messages"] for reply in ("Hi", "What? Why?")]
    score = LikelihoodRatio(same_anywhere, tiny_tokenizer, CopiedWords.of(rows, PARAMS), others).score(chats)
    assert score.tolist() == [0, 0]


def test_a_sum_counts_both_in_units_of_their_spread() -> None:
    def length(chat: Chat) -> float:
        return float(len(chat[-1]["content"]))

    chats = [talk("a", "ship", reply)["messages"] for reply in ("a", "aaa")]
    both = Sum.of([Scores(length), Scores(lambda chat: -10 * length(chat))], chats)
    assert both.scales == [1, 10]
    assert both.score(chats).tolist() == [0, 0]


def test_the_spread_leaves_out_replies_of_copied_words_alone() -> None:
    def score(chat: Chat) -> float:
        return {"a": 1.0, "b": 3.0}.get(chat[-1]["content"], NOTHING)

    chats = [talk("a", "ship", reply)["messages"] for reply in ("a", "b", "ship")]
    assert Sum.of([Scores(score)], chats).scales == [1]


def test_the_page_follows_from_the_result() -> None:
    names = ("finds", "difference", "moved", "constant", "two_constants", "echo", "template")
    rate = {"value": 0.5, "low": 0.25, "high": 0.75}
    judge = {"name": "n", "rates": dict.fromkeys(names, rate), "num_controls_that_win": 1, "seconds": 12.4}
    text = page({"judges": [judge], "num_folds": 3, "num_pairs": 4603, "num_conversations": 417})
    assert f"| n | {' | '.join(['0.500 (0.250 to 0.750)'] * 7)} | 1 of 4 | 12 |" in text
    assert "4,603 held-out pairs of 417 conversations, in 3 folds" in text
    assert "less independent" in text
