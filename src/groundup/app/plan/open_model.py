"""Configs of the models that a plan is about, and random models of their layers, whole or some, to measure."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from groundup.core.model.check import CAUSAL, read_config
from groundup.core.model.folder import weight_problems
from groundup.core.model.llama import build_llama
from groundup.core.training.adapters import add_adapter
from groundup.runner.params import Params
from groundup.runner.params.load import BYTE_ALPHABET, NUM_SPECIAL_TOKENS
from groundup.runner.params.training import LoraParams
from groundup.tokenizer.tokenizer import chat_tokenizer, train_bpe


def base_config(folder: Path) -> PreTrainedConfig:
    """Of the model in models/NAME; ValueError unless config and the headers of the weights can be read."""
    if not folder.is_dir():
        raise ValueError(f"there is no model in {folder}: `groundup fetch` brings it")
    config, problems = read_config(folder, CAUSAL)
    problems += weight_problems(folder)
    if config is None or problems:
        raise ValueError(f"the model in {folder} cannot be used: {'; '.join(problems)}")
    return config


def with_layers(config: PreTrainedConfig, num_layers: int, **changes: Any) -> PreTrainedConfig:
    """The same model with its first layers only; `changes` by the names in config.json."""
    values = config.to_dict()
    for name, value in values.items():
        if isinstance(value, list) and len(value) == config.num_hidden_layers:  # the kinds of layers
            values[name] = value[:num_layers]
    values[config.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = num_layers
    shallow: PreTrainedConfig = type(config).from_dict(values | changes)
    return shallow


def random_model(config: PreTrainedConfig, device: torch.device | str) -> PreTrainedModel:
    """In fp32; on the device "meta", shapes alone."""
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


def num_adapter_weights(config: PreTrainedConfig, lora: LoraParams) -> int:
    adapted = add_adapter(random_model(config, "meta"), lora)
    return sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)


def scratch_config(params: Params) -> PreTrainedConfig:
    """Of the model that pretraining builds, without its tokenizer, which would take minutes."""
    tokenizer = chat_tokenizer(
        train_bpe(iter(["a"]), NUM_SPECIAL_TOKENS + BYTE_ALPHABET, 1), params.model.context_length
    )
    with torch.device("meta"):
        config = build_llama(params.model, tokenizer).config
    config.vocab_size = params.tokenizer.scratch.vocab_size
    return config
