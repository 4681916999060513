"""The shape of the model that is trained: of model.scratch, or of models/NAME, whose weights are not loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from groundup.app.plan.sizing import count_parameters
from groundup.runner.base import models_folder
from groundup.runner.params import Params
from groundup.runner.params.training import LoraParams

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LORA_STAGES = ("pretrain", "sft", "reward", "align")


@dataclass(frozen=True)
class PlannedModel:
    num_parameters: int  # a weight that is used twice counts once
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    num_key_values: int  # numbers that a layer keeps of each token: all heads of its keys and values
    is_open: bool = False  # model.base, not random weights
    takes_branches: bool = True  # replies share the reading of their conversation in reward, and to a judge
    num_adapted: Mapping[str, int] = field(default_factory=dict)  # weights of the adapters, by stage with LoRA

    def num_trained(self, stage: str) -> int:
        return self.num_adapted.get(stage, self.num_parameters)


def planned_model(root: Path, params: Params) -> PlannedModel:
    """ValueError if the config of model.base or the headers of its weights cannot be read."""
    config = planned_config(root, params)
    scratch, vocab_size = params.model.scratch, params.tokenizer.scratch.vocab_size
    if config is None:
        return PlannedModel(
            num_parameters=count_parameters(scratch, vocab_size),
            vocab_size=vocab_size,
            hidden_size=scratch.hidden_size,
            num_layers=scratch.num_layers,
            num_heads=scratch.num_heads,
            intermediate_size=scratch.intermediate_size,
            num_key_values=2 * scratch.num_kv_heads * scratch.hidden_size // scratch.num_heads,
        )
    from groundup.app.plan.open_model import num_adapter_weights

    return replace(
        shape_of(config),
        is_open=params.model.base is not None,
        num_adapted={stage: num_adapter_weights(config, lora) for stage, lora in loras(params).items()},
    )


def shape_of(config: "PreTrainedConfig") -> PlannedModel:
    """Without adapters."""
    from groundup.app.plan.open_model import random_model
    from groundup.core.model.branches import takes_branches
    from groundup.core.model.llama import num_parameters

    model = random_model(config, "meta")
    width: int = config.hidden_size
    num_heads: int = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or width // num_heads
    return PlannedModel(
        num_parameters=num_parameters(model),
        vocab_size=config.vocab_size,
        hidden_size=width,
        num_layers=config.num_hidden_layers,
        num_heads=num_heads,
        # GPT-2's name, whose value may be None.
        intermediate_size=getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width,
        num_key_values=2 * getattr(config, "num_key_value_heads", num_heads) * head_size,
        takes_branches=takes_branches(model),
    )


def loras(params: Params) -> dict[str, LoraParams]:
    """The adapters that are trained, by stage."""
    trained = LORA_STAGES if params.pretrain.num_steps > 0 else LORA_STAGES[1:]
    return {stage: lora for stage in trained if (lora := getattr(params, stage).lora)}


def planned_config(root: Path, params: Params) -> "PreTrainedConfig | None":
    """None for a model from scratch without adapters, whose parameters arithmetic counts."""
    from_scratch = params.model.base is None
    if from_scratch and not loras(params):
        return None
    from groundup.app.plan.open_model import base_config, scratch_config

    if from_scratch:
        return scratch_config(params)
    folder = models_folder(root) / str(params.model.base)
    config = base_config(folder)
    if params.model.context_length > config.max_position_embeddings:
        raise ValueError(
            f"model.context_length is {params.model.context_length}, above the {config.max_position_embeddings} "
            f"positions of the model in {folder}: lower it"
        )
    return config
