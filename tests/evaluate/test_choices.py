from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.evaluate.choices import check_items, choice_branches, score_choices

QUERY = [{"role": "user", "content": "Do you like music?"}]


def item(**changes: Any) -> dict[str, Any]:
    return {"query": QUERY, "choices": ["Yes, I do.", "The sea"], "gold": 0, "group_id": "a", **changes}


def test_the_choice_is_the_likeliest_per_token(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    choices = ["Yes, I do.", "The sea", "I am well, thank you for asking me.", "no"]
    prompt = tiny_tokenizer.apply_chat_template(QUERY, add_generation_prompt=True, return_dict=False)
    per_token = []
    for choice in choices:
        reply = tiny_tokenizer(choice, add_special_tokens=False)["input_ids"] + [tiny_tokenizer.eos_token_id]
        with torch.no_grad():
            logprobs = tiny_model(torch.tensor([prompt + reply])).logits[0].log_softmax(-1)
        total = sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(reply))
        per_token.append(total / len(reply))
    best = per_token.index(max(per_token))
    items = [item(choices=choices, gold=gold, group_id=str(gold)) for gold in range(4)]
    result = score_choices(tiny_model, tiny_tokenizer, items, context_length=128, batch_size=2)
    assert result["correct"] == [float(gold == best) for gold in range(4)]
    assert result["groups"] == ["0", "1", "2", "3"]
    assert result["chance"] == 0.25


def test_chance_is_the_mean_over_items(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    items = [item(), item(choices=["a", "b", "c", "d"])]
    assert score_choices(tiny_model, tiny_tokenizer, items, 128, 8)["chance"] == pytest.approx(0.375)


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


def test_an_empty_task_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        check_items([], "topic")
