"""A folder with a causal language model of any origin: what is wrong with it, before a library fails on it.

Nothing in it is run or unpickled, and nothing is downloaded.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from groundup.core.formats.chat_template import apply
from groundup.core.formats.records import Message
from groundup.core.model import variants  # noqa: F401  registers this project's own models

INDEX = "model.safetensors.index.json"
WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")  # the names that transformers reads
FULL_PRECISION = ("F64", "F32", "F16", "BF16")  # dtypes of safetensors that can be trained
AGAIN = "copy or download the file again"
SHOWN_CHARACTERS = 200  # of a library's message


@dataclass(frozen=True)
class ReadFolder:
    """config and tokenizer are None where they cannot be read; `problems` says why, each with what to do."""

    config: PretrainedConfig | None
    tokenizer: PreTrainedTokenizerFast | None
    problems: list[str]


def read_folder(path: Path) -> ReadFolder:
    problems = weight_problems(path)
    config, of_config = read_config(path)
    tokenizer, of_tokenizer = read_tokenizer(path)
    problems += of_config + of_tokenizer
    if config and tokenizer and not of_config and len(tokenizer) > config.vocab_size:
        problems.append(
            f"its tokenizer has {len(tokenizer)} tokens and its config {config.vocab_size}: they are of different "
            "models; take all files from one"
        )
    return ReadFolder(config, tokenizer, problems)


def weight_problems(path: Path) -> list[str]:
    """Of the headers; the values are not read."""
    files = sorted(file for file in path.glob("*.safetensors") if WEIGHTS.fullmatch(file.name))
    problems = _index_problems(path, {file.name for file in files})
    if not files and not problems:
        problems.append("it has no weights (model.safetensors; pickled weights are not read): save it as safetensors")
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                dtypes = {tensors.get_slice(name).get_dtype() for name in tensors.keys() if name.endswith("weight")}  # noqa: SIM118  not a dict
        except (SafetensorError, OSError) as error:
            problems.append(f"{file.name} is damaged or incomplete ({error}): {AGAIN}")
            continue
        if quantised := sorted(dtypes - set(FULL_PRECISION)):
            problems.append(
                f"{file.name} has weights of type {', '.join(quantised)}: quantised weights are not supported; take "
                "the model in fp32, bf16 or fp16"
            )
    return problems


def _index_problems(path: Path, present: set[str]) -> list[str]:
    """Of model.safetensors.index.json, which names the file of each weight."""
    shards = present - {"model.safetensors"}
    if not (path / INDEX).exists():
        return [f"it has {', '.join(sorted(shards))} and no {INDEX}: add it"] if shards else []
    values, problems = _read_json(path / INDEX)
    places = values.get("weight_map")
    if problems:
        return problems
    if not isinstance(places, dict) or not places or not all(isinstance(place, str) for place in places.values()):
        return [f"{INDEX} has no weight_map of weights to files: {AGAIN}"]
    named = set(places.values())
    if "model.safetensors" in present and named != {"model.safetensors"}:
        problems.append(
            f"it has model.safetensors and {INDEX}, so which weights are meant is unclear: remove one of the two"
        )
    if wrong := sorted(name for name in named if not WEIGHTS.fullmatch(name)):
        problems.append(f"{INDEX} names {wrong[0]!r:.60}, which is no file of weights beside it: {AGAIN}")
    elif missing := sorted(named - present):
        problems.append(f"{INDEX} names {', '.join(missing)}, which it does not have: add what is missing")
    elif more := sorted(shards - named):
        problems.append(f"{INDEX} does not name {', '.join(more)}: remove what is not of this model")
    if not problems:
        problems += _places_problems(path, places)
    return problems


def _places_problems(path: Path, places: Mapping[str, str]) -> list[str]:
    """Weights that are not in the shard that the index names for them; damaged shards are reported elsewhere."""
    problems = []
    for name in sorted(set(places.values())):
        try:
            with safe_open(path / name, framework="pt") as tensors:
                lacking = sorted({weight for weight, place in places.items() if place == name} - set(tensors.keys()))
        except (SafetensorError, OSError):
            continue
        if lacking:
            problems.append(f"{name} lacks {len(lacking)} weights that {INDEX} names, such as {lacking[0]}: {AGAIN}")
    return problems


def read_config(path: Path) -> tuple[PretrainedConfig | None, list[str]]:
    """The config of a causal language model."""
    if not (path / "config.json").is_file():
        return None, ["it has no config.json: add that of the model"]
    values, problems = _read_json(path / "config.json")
    if problems:
        return None, problems
    problems = _foreign_code(values, "config.json")
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        return None, [
            *problems,
            f"config.json cannot be read; code in the folder is never run ({_start(error)}): take a model whose "
            "architecture transformers knows",
        ]
    if "quantization_config" in values:
        method = values["quantization_config"]
        method = method.get("quant_method", method) if isinstance(method, dict) else method
        problems.append(
            f"config.json has a quantization_config ({method!r:.60}): quantised weights are not supported; take the "
            "model in fp32, bf16 or fp16"
        )
    return config, problems + _architecture_problems(config)


def _architecture_problems(config: PretrainedConfig) -> list[str]:
    architectures = config.architectures or []
    if config.get_text_config() is not config:
        return [
            f"config.json is of {', '.join(architectures) or config.model_type}, which takes more than text: take a "
            "version for text alone"
        ]
    problems = []
    causal = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if causal is None or causal.__name__ not in architectures:
        problems.append(
            f"config.json is of {', '.join(architectures) or 'no model'}: not a causal language model; take one whose "
            "architectures end in ForCausalLM or LMHeadModel"
        )
    elif config.to_dict().get("is_decoder") is False:  # BERT and its kin; a decoder's config has no such key
        problems.append("config.json has is_decoder: false, so its tokens see later ones: take a decoder")
    if not isinstance(getattr(config, "max_position_embeddings", None), int):  # not every kind of model has it
        problems.append(
            "config.json has no max_position_embeddings, so how much the model can read is unknown: add it, in tokens"
        )
    return problems


def read_tokenizer(path: Path) -> tuple[PreTrainedTokenizerFast | None, list[str]]:
    """A fast tokenizer."""
    problems = []
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (path / name).is_file():
            problems.append(
                f"it has no {name}: add that of the model, or load its tokenizer with AutoTokenizer and save it here"
            )
        else:
            values, found = _read_json(path / name)
            problems += found + _foreign_code(values, name)
    if problems:
        return None, problems
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            model_max_length=VERY_LARGE_INTEGER,  # no warning of texts that the reader shortens
        )
    except Exception as error:  # the tokenizers library raises no narrower class
        return None, [f"its tokenizer cannot be read ({_start(error)}): {AGAIN}"]
    if not tokenizer.is_fast:
        return None, [
            "its tokenizer does not say where in the text a token stands, as those of tokenizer.json do: save it with "
            "a fast tokenizer"
        ]
    return tokenizer, []


def template_problems(tokenizer: PreTrainedTokenizerFast, chat: list[Message]) -> list[str]:
    """Empty if the tokenizer has no chat template."""
    if tokenizer.chat_template is None:
        return []
    try:
        apply(tokenizer, chat, reply_next=True)
    except ValueError as error:
        roles = ", ".join(message["role"] for message in chat)
        return [f"its chat template does not take turns of {roles} ({_start(error)}): correct chat_template.jinja"]
    return []


def _read_json(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        return {}, [f"{path.name} cannot be read ({_start(error)}): {AGAIN}"]
    if not isinstance(values, dict):
        return {}, [f"{path.name} holds no object but {values!r:.40}: {AGAIN}"]
    return values, []


def _foreign_code(values: Mapping[str, Any], name: str) -> list[str]:
    if "auto_map" not in values:
        return []
    return [
        f"{name} asks for code of its own (auto_map), and code in the folder is never run: remove auto_map from a "
        "copy if transformers knows this architecture, else take another model"
    ]


def _start(error: Exception) -> str:
    return " ".join(str(error).split())[:SHOWN_CHARACTERS] or type(error).__name__
