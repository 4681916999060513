"""The copy of a registered model that MLflow keeps, and a rehearsal of making it."""

import importlib
import logging
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from groundup.runner import collector
from groundup.runner.files import read_object
from groundup.runner.tracking.registry import NAME

logger = logging.getLogger("groundup.deliver")

CHAT = "llm/v1/chat"
NEEDED = ("mlflow", "torch", "transformers", "accelerate")  # to serve it
CARD = "README.md"


def log_copy(model_id: str, source: Path) -> None:
    """Weights, tokenizer and what serving needs, as MLflow lays them out."""
    import mlflow.transformers
    from huggingface_hub import ModelCard
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    mlflow.transformers.log_model(
        _load(source),
        task=CHAT,
        model_id=model_id,
        model_card=ModelCard.load(source / CARD),
        pip_requirements=_requirements(),
    )


def rehearse_copy(work: Path) -> None:
    """A copy of a model of no size, thrown away: the first one takes seconds, any other a tenth of one.

    It imports torch, transformers and what they and MLflow import when first used, and lists the installed packages.
    """
    try:
        with collector.importing(), TemporaryDirectory(dir=work) as folder:
            _copy_a_model_of_no_size(Path(folder))
    except Exception:  # what is wrong here is so when the model itself is copied, which says so and is tried again
        logger.exception("a rehearsal of the copy failed")


def _copy_a_model_of_no_size(folder: Path) -> None:
    from huggingface_hub import ModelCard
    from mlflow.transformers import save_model
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    source = folder / "source"
    shape = LlamaConfig(
        vocab_size=2, hidden_size=2, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1, pad_token_id=0
    )
    LlamaForCausalLM(shape).save_pretrained(source)
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), chat_template="chat").save_pretrained(source)
    save_model(
        _load(source),
        folder / "copy",
        task=CHAT,
        model_card=ModelCard("---\nlibrary_name: transformers\n---\n"),
        pip_requirements=_requirements(),
    )


def _load(source: Path) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _import_what_it_needs(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(source)
    # MLflow writes this down: a path of this machine. Given the path alone, it fails with this transformers.
    model.name_or_path = model.config.name_or_path = tokenizer.name_or_path = NAME
    return {"model": model, "tokenizer": tokenizer}


def _import_what_it_needs(source: Path) -> None:
    """The type of a model that is no plain Llama ends on the module that makes it known to transformers."""
    module = read_object(source / "config.json")["model_type"].partition("_needs_import_")[2]
    if module:
        importlib.import_module(module)


def _requirements() -> list[str]:
    return [f"{library}=={installed(library).partition('+')[0]}" for library in NEEDED]
