import math
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.model.bits_per_byte import bits_per_byte
from groundup.evaluate.harness.models import Encoder, LoadedModel, LoadedNgrams, fit
from groundup.evaluate.ngram import NgramModel

PAIRS = [
    ("<|bos|><|user|>Do you like music?<|end|><|assistant|>", "Yes, I like the sea.<|end|>"),
    ("<|bos|><|user|>Do you like music?<|end|><|assistant|>", "no<|end|>"),
    ("<|bos|>The river flows", " through the old town"),
    ("<|bos|><|user|>Do you like music?<|end|><|assistant|>", "the"),
]


def requests(kind: str, arguments: list[tuple[str, ...]]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=argument, idx=i, metadata=("task", i, 1))
        for i, argument in enumerate(arguments)
    ]


def loaded(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    return LoadedModel(model, Encoder(tokenizer), batch_size=2)


def greedy_pair(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """A context and its greedy continuation; most bytes of a random model are not text."""
    for start in "abcdefghijklmnopqrstuvwxyz":
        context = f"<|bos|>{start}"
        ids = tokenizer(context)["input_ids"]
        likeliest = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        reply = tokenizer.decode(likeliest)
        if tokenizer(context + reply)["input_ids"] == [*ids, likeliest]:
            return context, reply
    raise AssertionError("no such context")


def test_likelihoods_are_those_of_lm_evals_own_model(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    asked = requests("loglikelihood", [*PAIRS, greedy_pair(tiny_model, tiny_tokenizer)])
    theirs = HFLM(pretrained=tiny_model, tokenizer=tiny_tokenizer, batch_size=2, max_length=128).loglikelihood(asked)
    ours = loaded(tiny_model, tiny_tokenizer).loglikelihood(asked)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)
    assert [same for _, same in ours] == [same for _, same in theirs] == [False, False, False, False, True]


def test_a_text_that_lacks_bos_gets_it(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    lm = loaded(tiny_model, tiny_tokenizer)
    with_bos, without = lm.loglikelihood(
        requests("loglikelihood", [("<|bos|>The old", " town"), ("The old", " town")])
    )
    assert with_bos == without
    ids, _ = lm.tok_batch_encode(["The old", "<|bos|>The old"])
    assert ids[0].tolist() == ids[1].tolist()
    assert ids[0, 0] == tiny_tokenizer.bos_token_id


def test_too_long_a_request_keeps_its_end(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    branches = fit(list(range(100)), [[1, 2, 3], [4] * 40], context_length=32)
    assert [len(reply) for reply in branches.replies] == [3, 16]
    assert branches.prompt == list(range(83, 100))  # with the longest reply 33 tokens; the last is not an input
    (value,) = loaded(tiny_model, tiny_tokenizer).loglikelihood(
        requests("loglikelihood", [("the sea " * 300, "is warm " * 300)])
    )
    assert math.isfinite(value[0])


def test_texts_are_scored_as_in_pretrain(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    texts = ["Hello there!", "The river flows through the old town. " * 30]
    found = loaded(tiny_model, tiny_tokenizer).loglikelihood_rolling(
        requests("loglikelihood_rolling", [(text,) for text in texts])
    )
    for text, value in zip(texts, found, strict=True):
        expected = bits_per_byte(tiny_model, tiny_tokenizer, [{"text": text, "source": "a"}], 128, 2).overall
        assert -value / math.log(2) / len(text.encode()) == pytest.approx(expected, rel=1e-6)


def test_replies_are_generated_for_tasks_that_ask_for_them(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    arguments: Any = {"until": ["\n"], "max_gen_toks": 4, "do_sample": False}
    found = loaded(tiny_model, tiny_tokenizer).generate_until(requests("generate_until", [("The sea", arguments)]))
    assert len(found) == 1
    assert isinstance(found[0], str)


def test_ngrams_score_the_same_tokens(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    trained = tiny_tokenizer("The old town. The old sea. The old sea.", add_special_tokens=False)["input_ids"]
    ngrams = NgramModel(np.array(trained, dtype=np.uint64), 3, len(tiny_tokenizer))
    lm = LoadedNgrams(ngrams, Encoder(tiny_tokenizer))
    (sea, _), (town, _) = lm.loglikelihood(requests("loglikelihood", [("The old", " sea"), ("The old", " town")]))
    assert sea > town
    ids = tiny_tokenizer("<|bos|>The old sea", add_special_tokens=False)["input_ids"]
    prompt = tiny_tokenizer("<|bos|>The old", add_special_tokens=False)["input_ids"]
    assert sea == pytest.approx(ngrams.log_probs(ids)[len(prompt) - 1 :].sum())
    (whole,) = lm.loglikelihood_rolling(requests("loglikelihood_rolling", [("The old sea",)]))
    assert whole == pytest.approx(ngrams.log_probs([*ids, tiny_tokenizer.eos_token_id]).sum())
