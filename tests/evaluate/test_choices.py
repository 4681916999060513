from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.evaluate.choices import check_items, choice_branches

QUERY = [{"role": "user", "content": "Do you like music?"}]


def item(**changes: Any) -> dict[str, Any]:
    return {"query": QUERY, "choices": ["Yes, I do.", "The sea"], "gold": 0, "group_id": "a", **changes}


def test_long_queries_and_choices_stay_within_the_context(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    query = [{"role": role, "content": "the sea is warm " * 5} for role in ("user", "assistant", "user")]
    branches = choice_branches(tiny_tokenizer, query, ["yes", "the old town " * 40], context_length=48)
    assert len(branches.prompt) + max(len(reply) for reply in branches.replies) <= 49
    assert [len(reply) for reply in branches.replies][1] == 24
    assert branches.replies[0][-1] == tiny_tokenizer.eos_token_id
    assert branches.prompt[0] == tiny_tokenizer.bos_token_id


def test_all_bad_items_are_named_at_once() -> None:
    bad = [
        item(),
        item(choices=["same", "same"]),
        item(gold=2),
        item(query=[{"role": "assistant", "content": "Hi"}], choices=["a"]),
        {"query": QUERY, "choices": ["a", "b"]},
    ]
    with pytest.raises(ValueError, match="evaluation task topic cannot be scored") as error:
        check_items(bad, "topic")
    text = str(error.value)
    assert "item 0" not in text
    for expected in (
        "item 1: two choices are the same",
        "item 2: gold 2 is not one of the 2 choices",
        "item 3: query must end on a user message",
        "item 3: needs at least 2 choices, has 1",
        "item 4: gold, group_id missing",
    ):
        assert expected in text


@pytest.mark.parametrize(
    "wrong", [{"query": "Hello?"}, {"query": ["Hello?"]}, {"choices": "ab"}, {"choices": [1, 2]}, {"gold": "0"}]
)
def test_an_item_of_wrong_types_is_named(wrong: dict[str, Any]) -> None:
    check_items([item()], "topic")
    with pytest.raises(ValueError, match="item 1: query must be a list of messages, choices a list of texts"):
        check_items([item(), item(**wrong)], "topic")
