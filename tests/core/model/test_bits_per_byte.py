import math
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.model.bits_per_byte import bits_per_byte, document_windows

DOCUMENTS = [
    {"source": "short", "text": "Hello there!"},
    {"source": "long", "text": "The river flows through the old town. " * 12},
    {"source": "short", "text": "caf\u00e9 \u4e2d <|end|> ok"},
]


def bits_token_by_token(model: LlamaForCausalLM, tokenizer: Any, text: str, context: int) -> float:
    """A plain loop: every token is given up to `context` tokens before it, in windows that overlap by a quarter."""
    tokens = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    ids = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
    total, start = 0.0, 0
    for position in range(1, len(ids)):
        if position - start > context:
            start += context - context // 4
        logits = model(torch.tensor([ids[start:position]])).logits[0, -1].double()
        total -= float(logits.log_softmax(-1)[ids[position]])
    return total / math.log(2)


def test_equals_a_token_by_token_loop(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    with torch.no_grad():
        bits = [bits_token_by_token(tiny_model, tiny_tokenizer, d["text"], 32) for d in DOCUMENTS]
    sizes = [len(d["text"].encode()) for d in DOCUMENTS]
    result = bits_per_byte(tiny_model, tiny_tokenizer, DOCUMENTS, context_length=32, batch_size=4)
    assert result.overall == pytest.approx(sum(bits) / sum(sizes), rel=1e-5)
    assert result.by_source == {
        "long": pytest.approx(bits[1] / sizes[1], rel=1e-5),
        "short": pytest.approx((bits[0] + bits[2]) / (sizes[0] + sizes[2]), rel=1e-5),
    }


def test_a_uniform_model_pays_log2_of_the_vocabulary_for_each_token(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.no_grad():
        tiny_model.get_output_embeddings().weight.zero_()
    text = "Do you like music?"
    num_tokens = len(tiny_tokenizer(text, add_special_tokens=False)["input_ids"]) + 1  # the end counts
    result = bits_per_byte(tiny_model, tiny_tokenizer, [{"source": "a", "text": text}], 64, 1)
    assert result.overall == pytest.approx(num_tokens * math.log2(300) / 18, rel=1e-6)


def test_batching_changes_nothing_and_the_mode_is_kept(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    tiny_model.train()
    one = bits_per_byte(tiny_model, tiny_tokenizer, DOCUMENTS, 32, 1)
    many = bits_per_byte(tiny_model, tiny_tokenizer, DOCUMENTS, 32, 64)
    assert one.overall == pytest.approx(many.overall, rel=1e-6)
    assert tiny_model.training


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 30])
def test_every_token_is_scored_once_within_the_context(tiny_tokenizer: PreTrainedTokenizerFast, length: int) -> None:
    text = "!" * length
    ids = tiny_tokenizer(text, add_special_tokens=False)["input_ids"] + [tiny_tokenizer.eos_token_id]
    windows = document_windows(tiny_tokenizer, text, context_length=8)
    assert [token for w in windows for token in w.ids[-w.num_scored :]] == ids
    assert all(len(w.ids) <= 9 for w in windows)
    assert all(len(w.ids) - w.num_scored > 2 for w in windows[1:])


def test_no_text_is_an_error(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="hold no text"):
        bits_per_byte(tiny_model, tiny_tokenizer, [], 32, 2)
    with pytest.raises(ValueError, match="at least 2 tokens"):
        bits_per_byte(tiny_model, tiny_tokenizer, DOCUMENTS, 1, 2)
