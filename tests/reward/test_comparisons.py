"""Wrong replies of a step: whose they are, how many, behind which conversation."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.model.branches import Branches
from groundup.reward.comparisons import Comparison, comparisons
from groundup.reward.pairs import PREFERENCE, RELEVANCE, Pair
from tests.presets import preset
from tests.reward.test_reward import pair

WEIGHTS = {PREFERENCE: 1.0, RELEVANCE: 0.5}
SAID = ["it is warm", "I like music", "the old town", "thank you", "a river"]


def relevance(tokenizer: PreTrainedTokenizerFast, i: int, said: str, **changes: Any) -> Pair:
    row = pair(i, good=said, bad=f"wrong {i}") | {"kind": "relevance", "chosen_id": f"c{i}"} | changes
    chosen, rejected = (render(tokenizer, row[side], reply_next=False) for side in ("chosen", "rejected"))
    return Pair(chosen, rejected, row)


def compare(tokenizer: PreTrainedTokenizerFast, pairs: list[Pair], **changes: Any) -> list[Comparison]:
    params = preset("smoke").reward.model_copy(update={"batch_size": 8, "accumulate": 1} | changes)
    return comparisons(pairs, WEIGHTS, tokenizer, params)


def texts(tokenizer: PreTrainedTokenizerFast, chats: Branches) -> list[str]:
    return [tokenizer.decode([*chats.prompt, *reply]) for reply in chats.replies]


def chat(i: int, reply: str) -> str:
    return f"<|bos|><|user|>question {i}<|end|><|assistant|>{reply}<|end|>"


@pytest.fixture
def pairs(tiny_tokenizer: PreTrainedTokenizerFast) -> list[Pair]:
    return [relevance(tiny_tokenizer, i, said) for i, said in enumerate(SAID)]


def test_the_own_wrong_reply_comes_first_then_those_of_the_next_conversations(
    tiny_tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]
) -> None:
    found = compare(tiny_tokenizer, pairs, num_wrong_replies=3)
    assert texts(tiny_tokenizer, found[0].chats) == [
        chat(0, reply) for reply in ("it is warm", "wrong 0", "I like music", "the old town")
    ]
    assert texts(tiny_tokenizer, found[4].chats) == [
        chat(4, reply) for reply in ("a river", "wrong 4", "it is warm", "I like music")
    ]
    assert [comparison.weight for comparison in found] == [0.5] * 5


def test_each_reply_is_wrong_as_often_as_any_other(tiny_tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]) -> None:
    found = compare(tiny_tokenizer, pairs, num_wrong_replies=4)
    wrong = [text for comparison in found for text in texts(tiny_tokenizer, comparison.chats)[1:]]
    assert [sum(f">{said}<" in text for text in wrong) for said in SAID] == [3] * 5


def test_a_wrong_reply_is_of_another_conversation_and_in_other_words(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = tiny_tokenizer
    pairs = [
        relevance(tokenizer, 0, "yes"),
        relevance(tokenizer, 1, "no", chosen_id="c0"),
        relevance(tokenizer, 2, "yes"),
        relevance(tokenizer, 3, "wrong 0"),
        relevance(tokenizer, 4, "well " * 40),
        relevance(tokenizer, 5, "maybe"),
    ]
    (first, *_), num_tokens = compare(tokenizer, pairs, num_wrong_replies=7, max_length=64), len(pairs[4].chosen)
    assert num_tokens > 64
    assert texts(tokenizer, first.chats) == [chat(0, reply) for reply in ("yes", "wrong 0", "maybe")]


def test_with_one_wrong_reply_and_for_other_groups_the_pairs_are_as_they_were(
    tiny_tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]
) -> None:
    rated = relevance(tiny_tokenizer, 9, "hello", kind="rating")
    found = [*compare(tiny_tokenizer, pairs, num_wrong_replies=1), compare(tiny_tokenizer, [*pairs, rated])[-1]]
    for before, now in zip([*pairs, rated], found, strict=True):
        assert [[*now.chats.prompt, *reply] for reply in now.chats.replies] == [before.chosen, before.rejected]
    assert [now.margin for now in found] == [0.2] * 6


def test_wrong_replies_are_of_the_same_step_in_however_many_passes(
    tiny_tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]
) -> None:
    steps = [compare(tiny_tokenizer, pairs, batch_size=n, accumulate=m) for n, m in ((4, 1), (2, 2), (1, 4))]
    assert steps[0] == steps[1] == steps[2]
    assert [len(comparison.chats.replies) for comparison in steps[0]] == [4, 4, 4, 4, 2]
    assert compare(tiny_tokenizer, pairs, batch_size=2)[4] == steps[0][4]  # the last is alone in its step
