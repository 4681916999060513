"""Pairs are moved behind prompts of other conversations, and remember which."""

from typing import Any

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.reward.pairs import Pair
from groundup.reward.report.groups import moved_prompts


def relevance(name: str, tokenizer: PreTrainedTokenizerFast) -> Pair:
    """The reply of conversation `name` against one of `name`2, after a prompt of its own."""
    asked = [{"role": "user", "content": f"question of {name}"}]
    sides = {
        "chosen": [*asked, {"role": "assistant", "content": f"reply of {name}"}],
        "rejected": [*asked, {"role": "assistant", "content": f"reply of {name}2"}],
    }
    row: dict[str, Any] = sides | {
        "kind": "relevance",
        "wrong_from": "elsewhere",
        "margin": 0.0,
        "chosen_id": name,
        "rejected_id": f"{name}2",
    }
    chosen, rejected = (render(tokenizer, messages, reply_next=False) for messages in sides.values())
    return Pair(chosen, rejected, row)


def test_both_sides_move_to_a_prompt_of_another_conversation(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    pairs = [relevance(name, tiny_tokenizer) for name in "abcd"]
    moved = moved_prompts(pairs, tiny_tokenizer, 256, seed=0)
    assert len(moved) == 4
    for pair, there in zip(pairs, moved, strict=True):
        own, wrong, prompt = there.conversations
        assert (own, wrong) == pair.conversations
        assert prompt in {"a", "b", "c", "d"} - {own}
        for side in ("chosen", "rejected"):
            messages = [{"role": "user", "content": f"question of {prompt}"}, pair.row[side][-1]]
            assert there.row[side] == messages
            assert getattr(there, side) == render(tiny_tokenizer, messages, reply_next=False)


def test_what_cannot_move_is_left_out(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    pair = relevance("a", tiny_tokenizer)
    assert moved_prompts([pair], tiny_tokenizer, 256, seed=0) == []
    assert moved_prompts([pair, relevance("b", tiny_tokenizer)], tiny_tokenizer, 3, seed=0) == []
