import math
from typing import Any

import pytest
from lm_eval.api.model import LM
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import document_ends, encode_text
from groundup.core.model.likelihood import Stretch, own_distribution, stretch_nats
from groundup.evaluate.choices import choice_branches
from groundup.evaluate.harness.models import Encoder, LoadedModel
from groundup.evaluate.harness.tasks import (
    TextResult,
    choice_result,
    choice_row,
    choice_scores,
    choice_task,
    is_right,
    text_result,
    text_scores,
    text_task,
)
from tests.evaluate.judging import PARAMS
from tests.llamas import tiny_llama
from tests.open_tokenizers import adopted

QUERY = [{"role": "user", "content": "Do you like <|end|> music?"}]
CHOICES = ["Yes, I do.", "The sea", "I am well, thank you for asking me.", "no"]


class Fixed(LM):
    """Gives a reply the likelihood of its table, and every text two bits per character."""

    def __init__(self, nats: dict[str, float]) -> None:
        super().__init__()
        self.nats = nats
        self.asked: list[Any] = []

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        self.asked += [request.args for request in requests]
        return [(-self.nats[request.args[1]], False) for request in requests]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        return [-2 * math.log(2) * len(request.args[0]) for request in requests]

    def generate_until(self, requests: list[Any]) -> list[str]:
        raise AssertionError


def item(**changes: Any) -> dict[str, Any]:
    return {"query": QUERY, "choices": CHOICES, "gold": 0, "group_id": "a", **changes}


def test_the_choice_is_the_likeliest_per_token(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    branches = choice_branches(tiny_tokenizer, QUERY, CHOICES, 128)
    per_token = [
        stretch_nats(tiny_model, [Stretch(branches.prompt + reply, len(reply))], 1, own_distribution)[0] / len(reply)
        for reply in branches.replies
    ]
    best = per_token.index(min(per_token))
    task = choice_task("topic", [item(gold=gold, group_id=str(gold)) for gold in range(4)], tiny_tokenizer, 128)
    lm = LoadedModel(tiny_model, Encoder(tiny_tokenizer), 2)
    assert choice_result(lm, task, [0, 1, 2, 3]) == {
        "correct": [float(gold == best) for gold in range(4)],
        "groups": ["0", "1", "2", "3"],
    }
    assert choice_result(lm, task, [1, 3]) == {
        "correct": [float(gold == best) for gold in (1, 3)],
        "groups": ["1", "3"],
    }


@pytest.mark.parametrize("family", ["smollm2", "mistral", "gemma"])
def test_an_open_model_scores_the_ids_of_the_chat(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokenizer gives other ids for the text of a prompt that ends with a line break, or of decoded pieces."""
    tokenizer = adopted(family)
    branches = choice_branches(tokenizer, QUERY, CHOICES, 128)
    task = choice_task("topic", [item()], tokenizer, 128)
    lm = LoadedModel(tiny_llama(tokenizer), Encoder(tokenizer, task.eval_docs), 2)
    asked = []
    score = lm._loglikelihood_tokens

    def noting(requests: list[Any], disable_tqdm: bool = False) -> Any:
        asked.extend((before, reply) for _, before, reply in requests)
        return score(requests)

    monkeypatch.setattr(lm, "_loglikelihood_tokens", noting)
    choice_result(lm, task, [0])
    assert asked == [(branches.prompt, reply) for reply in branches.replies]
    (plain,) = lm.tok_batch_encode(["The sea"])[0].tolist()
    assert plain == [document_ends(tokenizer)[0], *encode_text(tokenizer, "The sea")]


def test_length_does_not_decide() -> None:
    row = {"num_tokens": [2, 10], "gold": 1}
    assert is_right(row, [-3.0, -10.0]) == 1.0  # 1.5 nats per token against 1.0
    assert is_right(row, [-1.0, -10.0]) == 0.0


def test_the_strings_are_the_chat(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    row = choice_row(item(), tiny_tokenizer, 128)
    encoder = Encoder(tiny_tokenizer)
    for choice, reply in zip(CHOICES, row["replies"], strict=True):
        messages = [*QUERY, {"role": "assistant", "content": choice}]
        chat = tiny_tokenizer.apply_chat_template(messages, return_dict=False)
        assert encoder.ids(row["prompt"] + reply, starts_a_text=True) == chat
    assert row["prompt"].count("<|end|>") == 1  # markers in the user's text are text
    assert row["num_tokens"] == [len(encoder.ids(reply, starts_a_text=False)) for reply in row["replies"]]


def test_a_chat_too_long_for_the_context_still_fits(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    long = [{"role": "user", "content": "caf\u00e9 \u4e2d the sea is warm " * 20}]
    row = choice_row(item(query=long, choices=["the old town " * 40, "yes"]), tiny_tokenizer, 48)
    assert row["num_tokens"][0] == 24
    assert row["prompt"].endswith("<|assistant|>")


def test_lm_eval_asks_for_every_choice_of_every_item(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    task = choice_task(
        "t", [item(choices=["a", "b"]), item(choices=["c", "d"], gold=1, group_id="b")], tiny_tokenizer, 128
    )
    lm = Fixed({"a<|end|>": 1.0, "b<|end|>": 2.0, "c<|end|>": 1.0, "d<|end|>": 2.0})
    result = choice_result(lm, task, [0, 1])
    assert result["correct"] == [1.0, 0.0]
    assert [reply for _, reply in lm.asked] == ["a<|end|>", "b<|end|>", "c<|end|>", "d<|end|>"]
    scores = choice_scores("t", result, PARAMS)
    assert scores["t_accuracy"] == 0.5
    assert 0 <= scores["t_accuracy_ci_low"] < 0.5 < scores["t_accuracy_ci_high"] <= 1


def test_bits_per_byte_of_all_and_of_each_source() -> None:
    documents = [{"text": "abcd", "source": "x"}, {"text": "\u00e9\u00e9", "source": "y"}]
    result = text_result(Fixed({}), text_task(documents), [0, 1])
    assert result == {"bits": pytest.approx([8.0, 4.0]), "num_bytes": [4, 4], "sources": ["x", "y"]}
    scores = text_scores(result, PARAMS)
    assert scores["bits_per_byte"] == pytest.approx(12 / 8)
    assert scores["bits_per_byte_x"] == scores["bits_per_byte_x_ci_low"] == pytest.approx(2.0)
    assert scores["bits_per_byte_y"] == scores["bits_per_byte_y_ci_high"] == pytest.approx(1.0)
    assert scores["bits_per_byte_ci_low"] == pytest.approx(1.0)
    assert scores["bits_per_byte_ci_high"] == pytest.approx(2.0)


def test_the_interval_is_that_of_a_ratio_over_documents() -> None:
    sizes = [10 * (1 + i % 7) for i in range(200)]
    bits = [size * (2.0 + 0.5 * (-1) ** i) for i, size in enumerate(sizes)]
    scores = text_scores(
        TextResult(bits=bits, num_bytes=sizes, sources=["x"] * 200),
        PARAMS.model_copy(update={"bootstrap_samples": 2000}),
    )
    mean = sum(bits) / sum(sizes)
    residuals = [b - mean * size for b, size in zip(bits, sizes, strict=True)]
    error = math.sqrt(sum(r * r for r in residuals)) / sum(sizes)  # delta method
    assert scores["bits_per_byte_ci_low"] == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert scores["bits_per_byte_ci_high"] == pytest.approx(mean + 1.96 * error, abs=0.15 * error)
