"""Check model directories before a library fails on them, or silently fills in missing parts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.model import (
    variants,  # noqa: F401  registers this project's own models
    variational,
)
from groundup.runner.files import restore

CAUSAL, REWARD = "causal language model", "reward model"
CLASSES = {CAUSAL: MODEL_FOR_CAUSAL_LM_MAPPING, REWARD: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING}
FILES = {
    CAUSAL: ("config.json", "generation_config.json", "README.md"),
    REWARD: ("config.json", "README.md"),
}
AGAIN = "copy or download the file again"
SHOWN_CHARACTERS = 200  # of a library's message


def check_model(path: Path, kind: str) -> None:
    """ValueError names everything that is wrong with a model directory of this kind, CAUSAL or REWARD."""
    weights = sorted(file for file in path.glob("*.safetensors") if file.name != variational.FILE)
    problems = [f"it has no {name}" for name in FILES[kind] if not (path / name).is_file()]
    if not weights:
        problems.append("it has no weights (*.safetensors)")
    if not problems:
        config, problems = read_config(path, kind)
        if config is not None and not problems:
            problems = _content_problems(path, weights, config, kind)
    if problems:
        raise ValueError(f"the model in {path} cannot be used: {'; '.join(problems)}. {restore(path)}")


def read_config(path: Path, kind: str) -> tuple[PreTrainedConfig | None, list[str]]:
    """The config in a folder, if it can be read, and what keeps it from being of this kind, each with what to do."""
    if not (path / "config.json").is_file():
        return None, ["it has no config.json: add that of the model"]
    values, problems = read_json(path / "config.json")
    if problems:
        return None, problems
    problems = foreign_code(values, "config.json")
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        return None, [
            *problems,
            f"config.json cannot be read; code in the folder is never run ({start_of(error)}): take a model whose "
            "architecture transformers knows",
        ]
    if "quantization_config" in values:
        method = values["quantization_config"]
        method = method.get("quant_method", method) if isinstance(method, dict) else method
        problems.append(
            f"config.json has a quantization_config ({method!r:.60}): quantised weights are not supported; take the "
            "model in fp32, bf16 or fp16"
        )
    return config, problems + _architecture_problems(config, kind)


def _architecture_problems(config: PreTrainedConfig, kind: str) -> list[str]:
    architectures = list(config.architectures or [])
    found = f"config.json is of {', '.join(architectures) or 'no model'}"
    if config.is_encoder_decoder or config.get_text_config() is not config:
        return [
            f"{found} and the type {config.model_type}, which is more than a decoder of text: take the text-only "
            "model of its family"
        ]
    problems = []
    wanted = model_class(config, kind)
    if wanted is None:
        problems.append(f"{found}, and transformers has no {kind} of the type {config.model_type}: take another model")
    elif architectures != [wanted.__name__]:
        problems.append(f"{found}, not of {wanted.__name__}: take a {kind}")
    elif config.to_dict().get("is_decoder") is False:  # BERT and its kin; a decoder's config has no such key
        problems.append("config.json has is_decoder: false, so its tokens see later ones: take a decoder")
    if not isinstance(getattr(config, "max_position_embeddings", None), int):  # not every kind of model has it
        problems.append(
            "config.json has no max_position_embeddings, so how much the model can read is unknown: add it, in tokens"
        )
    return problems


def read_json(path: Path) -> tuple[dict[str, Any], list[str]]:
    """An object of a file, and why it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        return {}, [f"{path.name} cannot be read ({start_of(error)}): {AGAIN}"]
    if not isinstance(values, dict):
        return {}, [f"{path.name} holds no object but {values!r:.40}: {AGAIN}"]
    return values, []


def foreign_code(values: Mapping[str, Any], name: str) -> list[str]:
    if "auto_map" not in values:
        return []
    return [
        f"{name} asks for code of its own (auto_map), and code in the folder is never run: remove auto_map from a "
        "copy if transformers knows this architecture, else take another model"
    ]


def start_of(error: Exception) -> str:
    return " ".join(str(error).split())[:SHOWN_CHARACTERS] or type(error).__name__


def model_class(config: PreTrainedConfig, kind: str) -> type[PreTrainedModel] | None:
    """transformers' class of this kind for a config, if it has one."""
    found: type[PreTrainedModel] | None = CLASSES[kind].get(type(config), None)
    return found


def require_reward_class(config: PreTrainedConfig) -> None:
    """ValueError if no reward model can be made of a causal language model with this config."""
    cls = model_class(config, REWARD)
    if cls is not None:
        with torch.device("meta"):
            head = getattr(cls(config), "score", None)
    if cls is None or not isinstance(head, torch.nn.Linear):
        raise ValueError(
            f"no reward model can be made of a {config.model_type}: transformers has no class for sequence "
            "classification of it with a linear head called `score`; choose another model.base"
        )


def _content_problems(path: Path, files: list[Path], config: PreTrainedConfig, kind: str) -> list[str]:
    tokenizer = load_tokenizer(str(path))
    if len(tokenizer) > config.vocab_size:  # then the model cannot even be built: its pad token has no embedding
        return [
            f"its tokenizer has {len(tokenizer)} tokens and its config {config.vocab_size}: they are of different runs"
        ]
    problems = _weight_problems(files, config, kind)
    if not problems and kind == REWARD and (path / variational.FILE).is_file():
        problems = variational.head_problems(path, _score(files))
    return problems


def _weight_problems(files: list[Path], config: PreTrainedConfig, kind: str) -> list[str]:
    cls = model_class(config, kind)
    assert cls is not None, "the config was checked"
    with torch.device("meta"):  # shapes only
        model = cls(config)
    shared = model.all_tied_weights_keys  # with another weight, which alone is on disk
    wanted = {name: tuple(weight.shape) for name, weight in model.state_dict().items() if name not in shared}
    shapes: dict[str, tuple[int, ...]] = {}
    not_finite = []
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  not a dict
                    weight = tensors.get_tensor(name)
                    shapes[name] = tuple(weight.shape)
                    if not weight.isfinite().all():
                        not_finite.append(name)
        except (SafetensorError, OSError) as error:
            return [f"{file.name} is damaged or incomplete ({error})"]
    problems = []
    if differing := [name for name, shape in wanted.items() if shapes.get(name) != shape]:
        problems.append(
            f"{len(differing)} of the {len(wanted)} weights that config.json describes are missing or have another "
            f"shape, such as {differing[0]}"
        )
    if not_finite:
        problems.append(f"{len(not_finite)} weights are not finite, such as {not_finite[0]}")
    return problems


def _score(files: list[Path]) -> torch.Tensor:
    """Weight of the linear head of a complete reward model, [1, H]."""
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            if "score.weight" in tensors.keys():  # noqa: SIM118  not a dict
                return tensors.get_tensor("score.weight")
    raise AssertionError("the weights were checked")


def shared_tokenizer(paths: Mapping[str, Path]) -> PreTrainedTokenizerFast:
    """The tokenizer of several models, which include sft; each must be able to read what another writes."""
    tokenizers = {name: load_tokenizer(str(path)) for name, path in paths.items()}
    vocabulary = tokenizers["sft"].get_vocab()
    others = [name for name, tokenizer in tokenizers.items() if tokenizer.get_vocab() != vocabulary]
    if others:
        raise ValueError(
            f"the tokenizer of {', '.join(others)} differs from that of sft: run `dvc repro`, so that all models come "
            "from one tokenizer"
        )
    return tokenizers["sft"]
