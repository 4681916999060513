"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685), as all stages that train use and publish them."""

import warnings
from pathlib import Path

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import TrainableTokensWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from groundup.core.model.added_tokens import added_tokens
from groundup.runner.params.training import ALL_LINEAR, LoraParams


def add_adapter(model: PreTrainedModel, lora: LoraParams) -> PeftModel:
    """Add a trainable adapter to `model` itself and freeze the rest.

    Trained whole: the score head of a reward model, and the embeddings of tokens that were added to an open model,
    which no one has trained.
    """
    head = model.get_output_embeddings()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    targets = _targets(model, linear, lora)
    model.name_or_path = model.config.name_or_path = ""  # otherwise peft records a path of this machine
    ignore_deprecation()
    adapted = get_peft_model(
        model,
        LoraConfig(
            # Of a reward model, peft trains `score` too.
            task_type=TaskType.SEQ_CLS if head is None else TaskType.CAUSAL_LM,
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=targets,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in linear.values()),
            trainable_token_indices=_new_rows(model, targets),
        ),
    )
    if isinstance(wrapped := model.get_output_embeddings(), TrainableTokensWrapper):
        wrapped.bias = head.bias  # TRL's SFT reads it, and the wrapper has none
    return adapted


def _targets(model: PreTrainedModel, linear: dict[str, nn.Module], lora: LoraParams) -> list[str]:
    """Names of the layers that get an adapter, as the ends of their paths."""
    of_layers = {id(module) for module in model.base_model.modules()}
    if lora.target_modules == ALL_LINEAR:
        return sorted({name.rpartition(".")[2] for name, module in linear.items() if id(module) in of_layers})
    unknown = [t for t in lora.target_modules if not any(name == t or name.endswith(f".{t}") for name in linear)]
    if unknown:  # peft ignores an unknown name if another one matches
        known = sorted({name.rpartition(".")[2] for name in linear})
        raise ValueError(f"lora.target_modules: no layer is called {', '.join(unknown)}; use {', '.join(known)}")
    return list(lora.target_modules)


def _new_rows(model: PreTrainedModel, targets: list[str]) -> dict[str, list[int]] | None:
    """Added tokens by the name of the layer whose rows they are: the embedding and, untied, the head."""
    added = added_tokens(model.config)
    if not added:
        return None
    layers = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings and model.get_output_embeddings() is not None:
        layers.append(model.get_output_embeddings())
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    return {names[id(layer)]: added for layer in layers if names[id(layer)] not in targets}


def ignore_deprecation() -> None:
    """From here on: peft 0.21 reads a property that transformers 5.23 deprecates, TRL 1.16 does while it trains."""
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def num_adapter_weights(model: nn.Module) -> int | None:
    """Trained weights of a LoRA model; None for a plain model, which is trained whole."""
    if not isinstance(model, PeftModel):
        return None
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def plain(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model inside a LoRA model, with its adapter switched on; a plain model is returned unchanged."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def merged(model: PeftModel) -> PreTrainedModel:
    """The plain model with the adapter in its weights, made of `model` itself.

    An adapter of lm_head unties it from the input embeddings: in a shared weight it would change those as well.
    """
    plain = model.get_base_model()
    head = plain.get_output_embeddings()
    if isinstance(head, BaseTunerLayer) and plain.config.tie_word_embeddings:
        weight = head.get_base_layer().weight
        head.get_base_layer().weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
        plain.config.tie_word_embeddings = False
    return model.merge_and_unload()


def merge_adapter(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Save a LoRA model's adapter and return the merged model; a plain model is returned unchanged."""
    if isinstance(model, PeftModel):
        model.save_pretrained(adapter)
        return merged(model)
    return model
