"""The copy of a registered model that MLflow keeps."""

import importlib
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from groundup.runner.files import read_object
from groundup.runner.tracking.registry import NAME

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


def _load(source: Path) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _import_what_it_needs(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(source)
    # MLflow writes this down: a path of this machine. Given the path alone, it fails with this transformers.
    model.name_or_path = model.config.name_or_path = tokenizer.name_or_path = NAME
    return {"model": model, "tokenizer": tokenizer}


def _import_what_it_needs(source: Path) -> None:
    """The type of a model that is not a plain Llama ends on the module that makes it known to transformers."""
    module = read_object(source / "config.json")["model_type"].partition("_needs_import_")[2]
    if module:
        importlib.import_module(module)


def _requirements() -> list[str]:
    return [f"{library}=={installed(library).partition('+')[0]}" for library in NEEDED]
