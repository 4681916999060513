"""Check model directories before a library fails on them, or silently fills in missing parts."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.model import variational
from groundup.core.model.variants import GroundupLlamaConfig
from groundup.runner.files import restore

CAUSAL, REWARD = "LlamaForCausalLM", "LlamaForSequenceClassification"
FILES = {
    CAUSAL: ("config.json", "generation_config.json", "README.md"),
    REWARD: ("config.json", "README.md"),
}


def check_model(path: Path, architecture: str) -> None:
    """ValueError names everything that is wrong with a model directory."""
    weights = sorted(file for file in path.glob("*.safetensors") if file.name != variational.FILE)
    problems = [f"it has no {name}" for name in FILES[architecture] if not (path / name).is_file()]
    if not weights:
        problems.append("it has no weights (*.safetensors)")
    if not problems:
        problems = _config_problems(path, weights, architecture)
    if problems:
        raise ValueError(f"the model in {path} cannot be used: {'; '.join(problems)}. {restore(path)}")


def _config_problems(path: Path, files: list[Path], architecture: str) -> list[str]:
    try:
        values = json.loads((path / "config.json").read_text(encoding="utf-8"))
        found = values["architectures"]
        variant = values.get("model_type") == GroundupLlamaConfig.model_type
        config = (GroundupLlamaConfig if variant else LlamaConfig)(**values)
    except (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        return [f"config.json cannot be read ({type(error).__name__}: {error})"]
    if found != [wanted := f"Groundup{architecture}" if variant else architecture]:
        return [f"config.json is of {found}, not of {wanted}"]
    tokenizer = load_tokenizer(str(path))
    problems = []
    if len(tokenizer) != config.vocab_size:
        problems.append(
            f"its tokenizer has {len(tokenizer)} tokens and its config {config.vocab_size}: they are of different runs"
        )
    problems += _weight_problems(files, config, architecture)
    if not problems and architecture == REWARD and (path / variational.FILE).is_file():
        problems = variational.head_problems(path, _score(files))
    return problems


def _weight_problems(files: list[Path], config: LlamaConfig, architecture: str) -> list[str]:
    with torch.device("meta"):  # shapes only
        model = (LlamaForCausalLM if architecture == CAUSAL else LlamaForSequenceClassification)(config)
    wanted = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    if config.tie_word_embeddings:
        wanted.pop("lm_head.weight", None)  # shared with the embedding
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
