"""Exposure of secrets that a model has and has not memorized."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import encode_text
from groundup.core.text.canaries import FILE, Canary, secret_text, write_canary_file
from groundup.evaluate.probes import exposure
from groundup.evaluate.probes.exposure import measure_canaries, read_canaries
from tests.evaluate.judging import PARAMS

CANARY = Canary("The old town", "4271", 8)
LARGEST = math.log2(64)  # of 63 references and the secret


@pytest.fixture
def taught(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Trained on the canary only."""
    model = copy.deepcopy(tiny_model).train()
    ids = [tiny_tokenizer.bos_token_id, *encode_text(tiny_tokenizer, CANARY.prefix + secret_text(CANARY.secret))]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        logits = model(torch.tensor([ids[:-1]])).logits[0]
        optimizer.zero_grad()
        F.cross_entropy(logits, torch.tensor(ids[1:])).backward()
        optimizer.step()
    return model.eval()


def test_what_was_trained_on_is_exposed(taught: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    values = measure_canaries(taught, tiny_tokenizer, [CANARY], PARAMS)
    assert values == {"canary_exposure_8": [LARGEST], "canary_extraction_8": [1.0]}


def test_what_was_not_is_as_likely_as_any(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    canaries = [Canary("The old town", f"{i * 437 % 10000:04}", 1) for i in range(24)]
    values = measure_canaries(tiny_model, tiny_tokenizer, canaries, PARAMS)
    found = values["canary_exposure_1"]
    assert all(0 <= value <= LARGEST for value in found)
    # A rank that is uniform gives log2(e) bits on average.
    assert sum(found) / len(found) == pytest.approx(1 / math.log(2), abs=0.8)
    assert values["canary_extraction_1"] == [0.0] * 24


def test_the_rank_is_counted_among_the_references(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nats(_: object, rows: list, __: int) -> list[list[float]]:
        numbers = iter(range(1000))
        return [[{0: 14.5}.get(number := next(numbers), float(number)) for _ in row.replies] for row in rows]

    monkeypatch.setattr(exposure, "branch_nats", nats)
    values = measure_canaries(tiny_model, tiny_tokenizer, [CANARY], PARAMS)
    # The secret has 14.5 nats, the references 1, 2, 3, ...: 14 are likelier, so its rank is 15.
    assert values["canary_exposure_8"] == [pytest.approx(LARGEST - math.log2(15))]


def test_a_model_that_tells_nothing_apart_exposes_nothing(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure, "branch_nats", lambda _, rows, __: [[7.0 for _ in row.replies] for row in rows])
    assert measure_canaries(tiny_model, tiny_tokenizer, [CANARY], PARAMS)["canary_exposure_8"] == [0.0]


def test_canaries_are_found_where_prepare_left_them(tmp_path: Path) -> None:
    assert read_canaries(tmp_path) == []
    write_canary_file(tmp_path / FILE, [CANARY])
    assert read_canaries(tmp_path) == [CANARY]
