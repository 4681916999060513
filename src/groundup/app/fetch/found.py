"""What `groundup fetch` says of a model."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import LlamaConfig

from groundup.app.export.gguf import unsupported
from groundup.core.formats.adopted import check_chat_format
from groundup.core.model.folder import WEIGHTS, ReadFolder


def describe(folder: Path, read: ReadFolder) -> dict[str, Any]:
    """Facts by name, for groundup.json and the terminal. Parameters are counted once where weights are tied."""
    config, tokenizer = read.config, read.tokenizer
    assert config is not None
    assert tokenizer is not None
    num_parameters, dtypes = count_weights(folder)
    return {
        "architecture": config.architectures[0],
        "parameters": num_parameters,
        "dtype": ", ".join(dtypes),
        "vocabulary": config.vocab_size,
        "tokenizer_tokens": len(tokenizer),
        "context": config.max_position_embeddings,
        "chat_template": "; ".join(check_chat_format(folder)) or "its own",
        "is_plain_llama": type(config) is LlamaConfig,
        "no_gguf": unsupported(config, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))),
    }


def count_weights(folder: Path) -> tuple[int, list[str]]:
    """(numbers in all weights of the files, their types)"""
    count, dtypes = 0, set()
    for file in sorted(folder.glob("*.safetensors")):
        if WEIGHTS.fullmatch(file.name):
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  not a dict
                    part = tensors.get_slice(name)
                    size = 1
                    for length in part.get_shape():
                        size *= length
                    count += size
                    dtypes.add(part.get_dtype())
    return count, sorted(dtypes)


def sentences(found: dict[str, Any], licence: str) -> list[tuple[str, str]]:
    """(subject, what was found and what it means)"""
    spare = found["vocabulary"] - found["tokenizer_tokens"]
    padded = f", {spare} of them without a token: never sampled" if spare else ""
    passes = "packed rows" if found["is_plain_llama"] else "the forward pass of transformers"
    gguf = f"hf, adapter; not gguf: {'; '.join(found['no_gguf'])}" if found["no_gguf"] else "hf, adapter, gguf"
    return [
        ("architecture", found["architecture"]),
        ("parameters", f"{found['parameters']:,} ({found['dtype']})"),
        ("vocabulary", f"{found['vocabulary']:,} tokens{padded}"),
        ("context", f"{found['context']:,} tokens; model.context_length may be less, not more"),
        ("chat template", found["chat_template"]),
        ("licence", licence),
        ("stages", f"all seven, by {passes}"),
        ("export", gguf),
    ]
