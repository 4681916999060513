"""A folder with a causal language model of any origin: what is wrong with it, before a library fails on it.

Nothing in it is run or unpickled, and nothing is downloaded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from groundup.core.formats.chat_template import apply
from groundup.core.formats.records import Message
from groundup.core.model.check import AGAIN, CAUSAL, foreign_code, read_config, read_json, start_of

INDEX = "model.safetensors.index.json"
WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")  # the names that transformers reads
FULL_PRECISION = ("F64", "F32", "F16", "BF16")  # dtypes of safetensors that can be trained


@dataclass(frozen=True)
class ReadFolder:
    """config and tokenizer are None where they cannot be read; `problems` says why, each with what to do."""

    config: PreTrainedConfig | None
    tokenizer: PreTrainedTokenizerFast | None
    problems: list[str]


def read_folder(path: Path) -> ReadFolder:
    problems = weight_problems(path)
    config, of_config = read_config(path, CAUSAL)
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
    values, problems = read_json(path / INDEX)
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


def read_tokenizer(path: Path) -> tuple[PreTrainedTokenizerFast | None, list[str]]:
    """A fast tokenizer."""
    problems = []
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (path / name).is_file():
            problems.append(
                f"it has no {name}: add that of the model, or load its tokenizer with AutoTokenizer and save it here"
            )
        else:
            values, found = read_json(path / name)
            problems += found + foreign_code(values, name)
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
        return None, [f"its tokenizer cannot be read ({start_of(error)}): {AGAIN}"]
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
        return [f"its chat template does not take turns of {roles} ({start_of(error)}): correct chat_template.jinja"]
    return []
