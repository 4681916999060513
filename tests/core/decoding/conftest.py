"""A tiny assistant, and a reward model with a known verdict."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from groundup.core.decoding import Decoding
from groundup.core.decoding.assistant import Assistant
from groundup.core.model.llama import save_model

NUMBERS: dict[str, Any] = {
    "seed": 3,
    "max_new_tokens": 12,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "num_beams": 4,
    "n": 64,
    "keep": 2,
    "depth": 3,
    "budget_tokens": 96,
    "pessimism": 0.0,
}


def decoding(method: str, **changes: Any) -> Decoding:
    return Decoding.model_validate({"method": method, **NUMBERS, **changes})


class KnownScorer:
    """Scores whole chats by a function of their tokens."""

    def __init__(self, mean: Callable[[Sequence[int]], float], std: Callable[[Sequence[int]], float]) -> None:
        self.mean = mean
        self.std = std

    def score(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([self.mean(ids) for ids in sequences]).float(), torch.tensor(
            [self.std(ids) for ids in sequences]
        ).float()


def no_std(ids: Sequence[int]) -> float:
    return 0.0


@pytest.fixture
def assistant(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> Assistant:
    return Assistant(tiny_model, tiny_tokenizer)


@pytest.fixture
def checkout(
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    mlflow_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """With sft, aligned (with other replies) and reward model, as the stages leave them; no champion."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    torch.manual_seed(1)
    other = LlamaForCausalLM(tiny_model.config)
    reward = LlamaForSequenceClassification(LlamaConfig(**{**tiny_model.config.to_dict(), "num_labels": 1}))
    for name, model in (("sft", tiny_model), ("aligned", other), ("reward", reward)):
        save_model(model, tiny_tokenizer, tmp_path / "artifacts" / name, "card")
    return tmp_path
