"""The folder of a judge's model: checked as a whole, pinned by its digest, read without network and foreign code."""

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from groundup.core.formats.records import Message
from groundup.core.model import variants  # noqa: F401  registers this project's own models
from groundup.runner.files import digest_path
from groundup.runner.params.evaluate import ModelJudgeParams

CHAT: list[Message] = [  # what conversations consist of
    {"role": "system", "content": "music"},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": ""},
]


@dataclass(frozen=True)
class ModelFolder:
    path: Path
    digest: str
    tokenizer: PreTrainedTokenizerFast
    context_length: int  # tokens that it may read, the reply included

    @classmethod
    def check(cls, path: Path, params: ModelJudgeParams) -> "ModelFolder":
        """ValueError names everything that is wrong with it."""
        if not path.is_dir():
            raise ValueError(f"evaluate.model_judge.path: there is no folder {path}; put a model there or correct it")
        problems = weight_problems(path)
        config, of_config = read_config(path)
        tokenizer, of_tokenizer = read_tokenizer(path)
        problems += of_config + of_tokenizer
        if config and tokenizer and not of_config and len(tokenizer) > config.vocab_size:
            problems.append(
                f"its tokenizer has {len(tokenizer)} tokens and its config {config.vocab_size}: they are of different "
                "models"
            )
        digest = digest_path(path)
        if digest != params.digest:
            problems.append(
                f"its digest is {digest} and evaluate.model_judge.digest is {params.digest or 'null'}: if this is the "
                "model that you mean, set the digest to the one found"
            )
        if problems or config is None or tokenizer is None:
            raise ValueError(
                f"the model in {path} (evaluate.model_judge) cannot judge:\n"
                + "\n".join(f"  {problem}" for problem in problems)
            )
        return cls(path, digest, tokenizer, min(params.max_length, config.max_position_embeddings))

    def load(self, device: torch.device) -> PreTrainedModel:
        """In fp32: rounding must not blur small differences."""
        model, loaded = AutoModelForCausalLM.from_pretrained(
            self.path,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if missing := sorted(loaded["missing_keys"]):
            raise ValueError(
                f"the model in {self.path} (evaluate.model_judge) lacks {len(missing)} weights, such as {missing[0]}: "
                "put the whole model there"
            )
        judge: PreTrainedModel = model.to(device).eval()
        return judge


def weight_problems(path: Path) -> list[str]:
    files = sorted(path.glob("*.safetensors"))
    if not files:
        return ["it has no weights (*.safetensors; pickled weights are not read)"]
    problems = []
    for file in files:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            problems.append(f"{file.name} is damaged or incomplete ({error})")
    return problems


def read_config(path: Path) -> tuple[PretrainedConfig | None, list[str]]:
    if not (path / "config.json").is_file():
        return None, ["it has no config.json"]
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        return None, [f"config.json cannot be read; code in the folder is never run ({str(error)[:200]})"]
    problems = []
    causal = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if causal is None or causal.__name__ not in (config.architectures or []):
        problems.append(
            f"config.json is of {', '.join(config.architectures or ['no model'])}: not a causal language model"
        )
    if not isinstance(getattr(config, "max_position_embeddings", None), int):  # not every kind of model has it
        problems.append("config.json has no max_position_embeddings, so how much the model can read is unknown")
    return config, problems


def read_tokenizer(path: Path) -> tuple[PreTrainedTokenizerFast | None, list[str]]:
    if not (path / "tokenizer.json").is_file():
        return None, ["it has no tokenizer.json"]
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            model_max_length=VERY_LARGE_INTEGER,  # no warning of what Reader shortens
        )
    except Exception as error:  # the tokenizers library raises no narrower class
        return None, [f"its tokenizer cannot be read ({str(error)[:200]})"]
    if not tokenizer.is_fast:
        return None, ["its tokenizer does not say where in the text a token stands, as those of tokenizer.json do"]
    if tokenizer.chat_template is not None:
        try:
            tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)
        except (TemplateError, TypeError, ValueError) as error:
            return tokenizer, [
                f"its chat template does not take an opening and turns of user and assistant ({error}): without the "
                "template, conversations are read as plain text"
            ]
    return tokenizer, []
