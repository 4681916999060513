"""One length for every stage: what the tokenizer records, or the model's positions if they are fewer."""

import copy

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.serve.served import ServedModel
from groundup.core.decoding.assistant import Assistant
from groundup.core.model.context import context_length


@pytest.mark.parametrize(("recorded", "expected"), [(32, 32), (128, 128), (int(1e30), 128)])
def test_the_shorter_of_the_two(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, recorded: int, expected: int
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.model_max_length = recorded
    assert tiny_model.config.max_position_embeddings == 128
    assert context_length(tiny_model, tokenizer) == expected
    assert Assistant(tiny_model, tokenizer).context_length == expected
    assert ServedModel("sft", tiny_model, tokenizer, [], "fp_0", 0).context_length == expected
