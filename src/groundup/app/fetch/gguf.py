"""A GGUF file as a plain Hugging Face directory."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from groundup.app.fetch.source import FetchError
from groundup.runner.files import read_object, write_json


def convert(file: Path, folder: Path) -> None:
    """Write config, weights and tokenizer of a GGUF file.

    In fp32, which holds the dequantised values exactly: bf16 would halve the 4 bytes per parameter on disk and round
    a second time. Training works in fp32 anyway.
    """
    try:
        loaded, report = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            use_safetensors=True,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # gguf and transformers raise any kind for a damaged file or an unknown architecture
        raise FetchError(
            f"{file.name} cannot be converted ({' '.join(str(error).split())[:200]}): take a whole file of an "
            "architecture whose GGUF transformers reads, or the model's safetensors"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise FetchError(
            f"{file.name} lacks {len(missing)} weights, such as {missing[0]}: take the whole file, or the model's "
            "safetensors"
        )
    config = loaded.config
    if type(loaded).__name__ not in (config.architectures or []):
        config.architectures = [type(loaded).__name__]
    model = _unquantised(loaded)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_tokens_without_weights(folder / "tokenizer.json", config.vocab_size)


def _drop_tokens_without_weights(file: Path, vocab_size: int) -> None:
    """transformers adds <|endoftext|> to the tokenizer of a GGUF file that has no such token."""
    values = read_object(file)
    kept = [token for token in values["added_tokens"] if token["id"] < vocab_size]
    if len(kept) < len(values["added_tokens"]):
        write_json(file, values | {"added_tokens": kept})


def _unquantised(loaded: Any) -> Any:
    """The same weights in a model whose config does not call them quantised, which save_pretrained would refuse."""
    values = loaded.config.to_dict()
    values.pop("quantization_config")
    values["_name_or_path"] = ""
    with torch.device("meta"):
        model = type(loaded)(type(loaded.config)(**values))
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = loaded.generation_config
    return model
