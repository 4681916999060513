"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685), as sft and align train and publish them."""

from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from groundup.runner.params.training import LoraParams


def add_adapter(model: PreTrainedModel, lora: LoraParams) -> PeftModel:
    """Add a trainable adapter to `model` itself and freeze the rest."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    unknown = [t for t in lora.target_modules if not any(name == t or name.endswith(f".{t}") for name in layers)]
    if unknown:  # peft ignores an unknown name if another one matches
        known = sorted({name.rpartition(".")[2] for name in layers})
        raise ValueError(f"lora.target_modules: no layer is called {', '.join(unknown)}; use {', '.join(known)}")
    model.name_or_path = model.config.name_or_path = ""  # otherwise peft records a path of this machine
    return get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
        ),
    )


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
