"""Check model directories before a library fails on them, or silently fills in missing parts."""

import json
from collections.abc import Mapping
from pathlib import Path

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
    """The config of a model directory, if it can be read, and why the model is not of this kind."""
    problems = []
    try:
        values = json.loads((path / "config.json").read_text(encoding="utf-8"))
        found = values["architectures"]
        if values.get("auto_map"):
            problems.append("config.json asks for code of its own (auto_map), which is never run")
        if values.get("quantization_config"):
            problems.append("its weights are quantized (quantization_config), so they cannot be trained")
        config = AutoConfig.for_model(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        return None, [*problems, f"config.json cannot be read ({type(error).__name__}: {error})"]
    if config.is_encoder_decoder or config.get_text_config() is not config:
        problems.append(
            f"a {config.model_type} is more than a decoder of text: take the text-only model of its family"
        )
    if not isinstance(getattr(config, "max_position_embeddings", None), int):  # not every kind of model has it
        problems.append("config.json has no max_position_embeddings, so how much the model can read is unknown")
    wanted = model_class(config, kind)
    if wanted is None:
        problems.append(f"transformers has no {kind} of the type {config.model_type}")
    elif found != [wanted.__name__]:
        problems.append(f"config.json is of {found}, not of {wanted.__name__}")
    return config, problems


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
    problems = []
    if len(tokenizer) > config.vocab_size:
        problems.append(
            f"its tokenizer has {len(tokenizer)} tokens and its config {config.vocab_size}: they are of different runs"
        )
    problems += _weight_problems(files, config, kind)
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
