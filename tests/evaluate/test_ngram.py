from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.shards import write_shards
from groundup.evaluate.ngram import NgramModel, training_tokens
from groundup.runner.steps import FinishedSteps


def model(tokens: list[int], order: int, vocab_size: int) -> NgramModel:
    return NgramModel(np.array(tokens, dtype=np.uint64), order, vocab_size)


def test_order_one_is_add_one_counting() -> None:
    found = model([0, 1, 1, 2], 1, 4).log_probs([3, 1, 3, 0])
    assert np.exp(found) == pytest.approx([3 / 8, 1 / 8, 2 / 8])


def test_bigrams_by_hand() -> None:
    # 0 1, 1 0, 0 1, 1 2: two bigrams occur once and one twice, so the discount is 2 / (2 + 2 * 1) = 0.5.
    bigrams = model([0, 1, 0, 1, 2], 2, 3)
    unigram = np.array([3, 3, 2]) / 8
    after_0 = 0.5 * 1 / 2 * unigram + [0, 1.5 / 2, 0]  # 0 was followed by one token, twice
    after_1 = 0.5 * 2 / 2 * unigram + [0.5 / 2, 0, 0.5 / 2]
    for before, expected in ((0, after_0), (1, after_1), (2, unigram)):  # nothing followed 2
        found = [bigrams.log_probs([before, token])[0] for token in range(3)]
        assert np.exp(found) == pytest.approx(expected)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_add_up_to_one_in_every_context(order: int) -> None:
    rng = np.random.default_rng(0)
    trained = rng.integers(0, 7, 400)
    ngrams = NgramModel(trained.astype(np.uint64), order, 7)
    for context in ([3], [3, 1], trained[10:14].tolist(), [6, 6, 6, 6, 6, 6]):
        total = sum(np.exp(ngrams.log_probs([*context, token])[-1]) for token in range(7))
        assert total == pytest.approx(1)


def test_longer_contexts_help_where_there_is_something_to_remember() -> None:
    trained = [0, 1, 2, 0, 3, 4] * 50  # the next token depends on the one before the 0
    scores = [model(trained, order, 5).log_probs(trained[:60]).sum() for order in (1, 2, 3)]
    assert scores[0] < scores[1] < scores[2]


def test_more_tokens_of_context_than_training_text_are_no_error() -> None:
    assert len(model([0, 1], 5, 3).log_probs([0, 1, 2, 0, 1, 2, 0])) == 6


def test_documents_and_replies_up_to_the_limit(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    texts = ["The sea is warm.", "Do you like music?"]
    write_jsonl(tmp_path / "text.jsonl", [{"text": text} for text in texts])
    write_shards(tiny_tokenizer, tmp_path / "text.jsonl", tmp_path / "shards", 8, FinishedSteps(tmp_path / "steps"))
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "I am well"}]
    write_jsonl(tmp_path / "chats.jsonl", [{"messages": chat}, {"messages": chat}])

    def ids(text: str) -> list[int]:
        return tiny_tokenizer(text, add_special_tokens=False)["input_ids"]

    documents = [token for text in texts for token in ids(f"<|bos|>{text}<|end|>")]
    replies = ids("<|pad|><|assistant|>I am well<|end|>") * 2
    for limit in (10_000, 11):
        found = training_tokens(tmp_path / "shards", tmp_path / "chats.jsonl", tiny_tokenizer, limit)
        assert found.tolist() == documents[:limit] + replies[:limit]
