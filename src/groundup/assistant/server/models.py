"""The models a server answers with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.assistant.server.text import TokenBytes
from groundup.frame.files import digest_path
from groundup.model.chat_format import load_tokenizer
from groundup.model.check import CAUSAL, check_model


@dataclass(frozen=True)
class ServedModel:
    name: str
    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    token_bytes: TokenBytes
    fingerprint: str  # of its files: a request and seed that give one reply give another where this differs
    modified: int  # seconds since 1970

    @property
    def context_length(self) -> int:
        return self.model.config.max_position_embeddings


def load_models(paths: Mapping[str, Path], device: str) -> dict[str, ServedModel]:
    """ValueError names what is wrong with a directory."""
    return {name: _load(name, path, device) for name, path in paths.items()}


def _load(name: str, path: Path, device: str) -> ServedModel:
    if not (path / "config.json").is_file():
        raise ValueError(f"there is no model in {path}: raise one with `dvc repro`")
    check_model(path, CAUSAL)
    model = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32, use_safetensors=True).to(device).eval()
    tokenizer = load_tokenizer(str(path))
    fingerprint = f"fp_{digest_path(path)[:12]}"
    return ServedModel(
        name, model, tokenizer, TokenBytes(tokenizer), fingerprint, int((path / "config.json").stat().st_mtime)
    )
