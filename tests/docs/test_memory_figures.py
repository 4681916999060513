"""The shapes of the table of memory are those of the models that it names."""

import sys
from importlib import import_module

import pytest
from transformers import LlamaConfig

from groundup.app.plan.model import loras, shape_of
from groundup.app.plan.open_model import num_adapter_weights
from tests.conftest import ROOT
from tests.presets import preset

PUBLISHED = {  # parameters
    "SmolLM2-135M": 134_515_008,
    "SmolLM2-360M": 361_821_120,
    "SmolLM2-1.7B": 1_711_376_384,
    "Llama 3.1 8B": 8_030_261_248,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_and_adapters_are_counted_as_in_the_model(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    figures = import_module("memory_figures")
    params = preset(figures.PRESET)
    hidden, num_layers, num_heads, num_kv_heads, inner, vocab_size, is_tied = figures.SHAPES[name]
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        intermediate_size=inner,
        vocab_size=vocab_size,
        tie_word_embeddings=is_tied,
    )
    planned = figures.planned(name, params)
    assert planned.num_parameters == shape_of(config).num_parameters == PUBLISHED[name]
    assert planned.num_adapted == {stage: num_adapter_weights(config, lora) for stage, lora in loras(params).items()}
