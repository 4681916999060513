"""Models on disk, and new ones: transformers' Llama, built from params."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from groundup.core.formats.control_tokens import never_sampled
from groundup.core.model.variants import GroundupLlamaConfig, GroundupLlamaForCausalLM, loading_note
from groundup.core.model.verify import verify_passes
from groundup.runner.params.training import ModelParams


def build_llama(params: ModelParams, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A new model with random weights from torch's global generator.

    Projections that write to the residual stream start at zero, so every block starts as the identity. The model is a
    plain Llama if positions and attention are Llama's own.
    """
    scratch = params.scratch
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": scratch.hidden_size,
        "intermediate_size": scratch.intermediate_size,
        "num_hidden_layers": scratch.num_layers,
        "num_attention_heads": scratch.num_heads,
        "num_key_value_heads": scratch.num_kv_heads,
        "max_position_embeddings": params.context_length,
        "rope_parameters": {"rope_type": "default", "rope_theta": scratch.rope_theta},
        "tie_word_embeddings": scratch.tie_embeddings,
        "initializer_range": scratch.initializer_range,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model: LlamaForCausalLM
    if (scratch.position, scratch.attention) == ("rope", "softmax"):
        model = LlamaForCausalLM(LlamaConfig(**shape))
    else:
        config = GroundupLlamaConfig(**shape, position=scratch.position, attention=scratch.attention)
        model = GroundupLlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path, card: str) -> None:
    """A directory that from_pretrained loads: safetensors, tokenizer, generation config, model card."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # Without this file the Hugging Face Trainer's use_cache=False persists, and generation is 5-10 times slower.
    if model.can_generate():
        model.generation_config = GenerationConfig(
            **ids, suppress_tokens=suppressed_tokens(model, tokenizer), use_cache=True
        )
    for name, value in ids.items():
        setattr(model.config, name, value)
    model.config.use_cache = True
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    note = loading_note(model.config)  # a card that extends the previous model's card has it already
    (out / "README.md").write_text(card if note in card else card + note, encoding="utf-8")


def suppressed_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Token ids that no reply holds: those of the tokenizer, those that the model names, and its other ends.

    One token ends a reply everywhere, `tokenizer.eos_token_id`; a model may have several, in a list.
    """
    ends = [model.config.eos_token_id, model.generation_config.eos_token_id]
    found = {
        *never_sampled(tokenizer, model.config.vocab_size),
        *(model.generation_config.suppress_tokens or []),
        *(i for end in ends for i in (end if isinstance(end, list) else [end]) if i is not None),
    }
    return sorted(found - {tokenizer.eos_token_id})


def load_causal_lm(path: Path, device: torch.device) -> PreTrainedModel:
    """In fp32, verified on a made-up input."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
    model = model.to(device)
    verify_passes(model)
    return model


def num_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
