"""Pairs of a person's reply and a reply of the SFT model."""

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.rollout.engine import Builtin
from groundup.reward.pairs import SAMPLED, Pair, of_group
from groundup.reward.sampled_pairs import sampled_pairs
from groundup.runner.params.training import SampledParams
from tests.reward.test_reward import prompt

PARAMS = SampledParams(max_pairs=5, max_heldout_pairs=5, weight=1.0, max_new_tokens=6, temperature=1.0, batch_size=4)


@pytest.fixture
def make(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Any:
    def sample(rows: list[dict[str, Any]], num_pairs: int = 100, max_length: int = 64, seed: int = 1) -> list[Pair]:
        write_jsonl(tmp_path / "prompts.jsonl", rows)
        return sampled_pairs(
            Builtin(), tiny_model, tiny_tokenizer, tmp_path / "prompts.jsonl", num_pairs, max_length, PARAMS, seed
        )

    return sample


def test_a_pair_is_the_prompt_with_both_replies(make: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    (pair,) = make([prompt(3)])
    question = {"role": "user", "content": "question 3"}
    assert pair.row["chosen"] == [question, {"role": "assistant", "content": "the sea is warm there"}]
    assert pair.row["rejected"][0] == question
    assert pair.row["rejected"][1]["content"] != "the sea is warm there"
    assert pair.chosen == render(tiny_tokenizer, pair.row["chosen"], reply_next=False)
    assert pair.rejected == render(tiny_tokenizer, pair.row["rejected"], reply_next=False)  # as text, not as drawn
    assert pair.conversations == ("p3", "p3")
    assert of_group([pair], SAMPLED) == [pair]


def test_so_many_are_drawn_and_the_same_each_time(make: Any) -> None:
    rows = [prompt(i) for i in range(30)]
    some = make(rows, num_pairs=7)
    assert len(some) == 7
    assert some == make(rows, num_pairs=7)
    assert some != make(rows, num_pairs=7, seed=2)


def test_prompts_that_nobody_answered_and_long_ones_are_left_out(make: Any) -> None:
    long = prompt(1) | {"messages": [{"role": "user", "content": "word " * 80}]}
    assert make([prompt(0, reply=None), long]) == []
    assert len(make([prompt(0, reply="word " * 80), prompt(2)])) == 1


def test_the_same_reply_twice_is_no_pair(make: Any) -> None:
    (pair,) = make([prompt(3)])
    assert make([prompt(3, reply=pair.row["rejected"][1]["content"])]) == []
