"""Export a model as one GGUF file for llama.cpp and programs based on it: Llama architecture, unchanged weights."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from transformers import AutoConfig, LlamaConfig, PreTrainedConfig

from groundup.app.export.target import written
from groundup.core.model.check import CAUSAL, check_model
from groundup.core.model.variants import differences as differences_to_llama

Array = npt.NDArray[Any]

TOKENIZER_MODEL = "gpt2"  # llama.cpp's name for byte-level BPE
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
WORDS = (  # of Llama 3 and Qwen 2, which differ in how many digits a token can have
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# How a text is split before BPE, by llama.cpp's names: only what it knows by name can be exported.
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [BYTE_LEVEL],
    "smollm": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": WORDS.replace("DIGITS", r"\p{N}{1,3}")}, "behavior": "Isolated"},
        BYTE_LEVEL | {"use_regex": False},
    ],
    "qwen2": [
        {"type": "Split", "pattern": {"Regex": WORDS.replace("DIGITS", r"\p{N}")}, "behavior": "Isolated"},
        BYTE_LEVEL | {"use_regex": False},
    ],
}
FILE_TYPES = {
    torch.float32: (gguf.LlamaFileType.ALL_F32, gguf.GGMLQuantizationType.F32),
    torch.float16: (gguf.LlamaFileType.MOSTLY_F16, gguf.GGMLQuantizationType.F16),
    torch.bfloat16: (gguf.LlamaFileType.MOSTLY_BF16, gguf.GGMLQuantizationType.BF16),
}


def export_gguf(model: Path, target: Path) -> None:
    """Write the file, read it back and compare; ValueError names everything that GGUF cannot represent."""
    check_model(model, CAUSAL)
    config = AutoConfig.from_pretrained(model)
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    weights = read_weights(model)
    if problems := unsupported(config, tokenizer) + _weight_problems(weights):
        raise ValueError(f"{model} cannot become GGUF: {'; '.join(problems)}. `groundup export --to hf` keeps it all")
    template = (model / "chat_template.jinja").read_text(encoding="utf-8")
    with written(target) as beside:
        write_gguf(beside, config, tokenizer, template, weights)
        if differing := differences(beside, config, tokenizer, weights):
            raise RuntimeError(f"what was written to {target} does not read back as {model}: {', '.join(differing)}")


def read_weights(model: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(model.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            weights |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118  not a dict
    return weights


def _weight_problems(weights: dict[str, torch.Tensor]) -> list[str]:
    if others := {weight.dtype for weight in weights.values()} - FILE_TYPES.keys():
        return [f"its weights are {', '.join(sorted(map(str, others)))}, not floats"]
    return []


def unsupported(config: PreTrainedConfig, tokenizer: dict[str, Any]) -> list[str]:
    """Properties of a model that GGUF cannot represent: the file would run, but with other results."""
    if not isinstance(config, LlamaConfig):
        return [f"it is a {config.model_type}, and only a Llama is written as llama.cpp reads it"]
    problems = [f"{what}, which llama.cpp's Llama does not support" for what in differences_to_llama(config)]
    if config.rope_parameters["rope_type"] != "default":
        problems.append(f"its rotary embedding is {config.rope_parameters['rope_type']}, only default is supported")
    if config.hidden_act != "silu":
        problems.append(f"its activation is {config.hidden_act}, llama.cpp's Llama has silu")
    problems += [
        f"it has {name}, llama.cpp's Llama has none" for name in ("attention_bias", "mlp_bias") if vars(config)[name]
    ]
    if tokenizer.get("normalizer"):
        problems.append(f"its tokenizer changes text by {tokenizer['normalizer']['type']}, which GGUF cannot hold")
    if adds_bos(config, tokenizer) is None:
        problems.append("its tokenizer adds special tokens to a text, and GGUF can hold none but bos before it")
    if tokenizer["model"].get("type") != "BPE":
        problems.append(f"its tokenizer is {tokenizer['model'].get('type')}, not BPE")
    if pre_tokenizer(tokenizer) is None:
        splits = tokenizer.get("pre_tokenizer") or "nothing"
        known = ", ".join(PRE_TOKENIZERS)
        problems.append(
            f"its tokenizer splits text by {splits}, which is none of the ways with a name in GGUF: {known}"
        )
    return problems


def adds_bos(config: PreTrainedConfig, tokenizer: dict[str, Any]) -> bool | None:
    """Whether the tokenizer puts bos before a text, which llama.cpp then does too; None if it adds other tokens.

    A chat gets one bos either way: llama.cpp takes that of the template off where it adds its own.
    """
    post = tokenizer.get("post_processor") or {"type": "Sequence", "processors": []}
    before: list[list[int]] = []
    for step in post["processors"] if post["type"] == "Sequence" else [post]:
        if step["type"] == "ByteLevel":  # adds nothing
            continue
        if step["type"] != "TemplateProcessing":
            return None
        *tokens, text = step["single"]
        if "Sequence" not in text or any("SpecialToken" not in token for token in tokens):
            return None
        before += [step["special_tokens"][token["SpecialToken"]["id"]]["ids"] for token in tokens]
    return bool(before) if before in ([], [[config.bos_token_id]]) else None


def pre_tokenizer(tokenizer: dict[str, Any]) -> str | None:
    """llama.cpp's name of how the tokenizer splits text."""
    splits = tokenizer.get("pre_tokenizer") or {}
    steps = splits["pretokenizers"] if splits.get("type") == "Sequence" else [splits]
    for name, wanted in PRE_TOKENIZERS.items():
        if len(steps) == len(wanted) and all(map(_has, steps, wanted)):
            return name
    return None


def _has(step: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(step.get(key) == value for key, value in wanted.items())


def write_gguf(
    path: Path, config: LlamaConfig, tokenizer: dict[str, Any], template: str, weights: dict[str, torch.Tensor]
) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    file_type, quantization = FILE_TYPES[weights["model.embed_tokens.weight"].dtype]
    writer.add_name("groundup")
    writer.add_file_type(file_type)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    tokens, types = vocabulary(tokenizer, config.vocab_size)
    writer.add_tokenizer_model(TOKENIZER_MODEL)
    writer.add_tokenizer_pre(str(pre_tokenizer(tokenizer)))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges(tokenizer))
    if config.bos_token_id is not None:
        writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    writer.add_add_bos_token(bool(adds_bos(config, tokenizer)))
    writer.add_chat_template(without_generation_marks(template))
    names = tensor_names(config, weights)
    for name, weight in weights.items():  # tied embeddings are one tensor in both formats
        values = permuted(name, weight.float().numpy(), config)
        kind = quantization if values.ndim > 1 else gguf.GGMLQuantizationType.F32  # llama.cpp expects vectors in F32
        writer.add_tensor(names[name], gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensor_names(config: LlamaConfig, weights: dict[str, torch.Tensor]) -> dict[str, str]:
    """llama.cpp's name of each weight."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    return {name: str(names.get_name(name, (".weight",))) for name in weights}


def vocabulary(tokenizer: dict[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    """Tokens by id, with bytes as GPT-2's printable characters, and their types.

    A model can have more rows than its tokenizer has tokens; GGUF wants a name for each.
    """
    added = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    tokens = {index: token for token, index in tokenizer["model"]["vocab"].items()} | added
    control = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    types = [
        gguf.TokenType.CONTROL
        if index in control
        else gguf.TokenType.USER_DEFINED
        if index in added
        else gguf.TokenType.NORMAL
        if index in tokens
        else gguf.TokenType.UNUSED
        for index in range(vocab_size)
    ]
    return [tokens.get(index, f"[PAD{index}]") for index in range(vocab_size)], [int(kind) for kind in types]


def merges(tokenizer: dict[str, Any]) -> list[str]:
    return [" ".join(merge) for merge in tokenizer["model"]["merges"]]


def without_generation_marks(template: str) -> str:
    """Without the marks of the assistant's tokens, which trainers use but not every GGUF reader knows."""
    return template.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def permuted(name: str, values: Array, config: LlamaConfig) -> Array:
    """Query and key rows [heads * D, in]: transformers rotates halves of a head, llama.cpp neighbouring pairs."""
    if (num_heads := _rotated_heads(name, config)) is None:
        return values
    heads = values.reshape(num_heads, 2, config.head_dim // 2, values.shape[-1])
    return heads.swapaxes(1, 2).reshape(values.shape)


def unpermuted(name: str, values: Array, config: LlamaConfig) -> Array:
    """Query and key rows in transformers' order."""
    if (num_heads := _rotated_heads(name, config)) is None:
        return values
    order = [
        head * config.head_dim + pair * 2 + half
        for head in range(num_heads)
        for half in range(2)
        for pair in range(config.head_dim // 2)
    ]
    return values[order]


def _rotated_heads(name: str, config: LlamaConfig) -> int | None:
    if name.endswith("self_attn.q_proj.weight"):
        return config.num_attention_heads
    return config.num_key_value_heads if name.endswith("self_attn.k_proj.weight") else None


def differences(
    path: Path, config: LlamaConfig, tokenizer: dict[str, Any], weights: dict[str, torch.Tensor]
) -> list[str]:
    """Where the file differs from the model: tensors, vocabulary, token types, merges, pre-tokenizer."""
    reader = gguf.GGUFReader(path)
    tokens, types = vocabulary(tokenizer, config.vocab_size)
    fields: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.context_length": config.max_position_embeddings,
        "tokenizer.ggml.model": TOKENIZER_MODEL,
        "tokenizer.ggml.pre": pre_tokenizer(tokenizer),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges(tokenizer),
        "tokenizer.ggml.bos_token_id": config.bos_token_id,
        "tokenizer.ggml.eos_token_id": config.eos_token_id,
        "tokenizer.ggml.padding_token_id": config.pad_token_id,
    }
    differing = [
        key
        for key, value in fields.items()
        if value is not None and (key not in reader.fields or _read(reader, key) != value)
    ]
    wanted = {there: here for here, there in tensor_names(config, weights).items()}
    found = {tensor.name: tensor for tensor in reader.tensors}
    differing += sorted(wanted.keys() ^ found.keys())
    for there in wanted.keys() & found.keys():
        here = wanted[there]
        values = gguf.dequantize(found[there].data, found[there].tensor_type)
        if not np.array_equal(unpermuted(here, values, config), weights[here].float().numpy()):
            differing.append(there)
    return differing


def _read(reader: gguf.GGUFReader, key: str) -> Any:
    return reader.fields[key].contents()
