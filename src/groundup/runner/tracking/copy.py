"""The copy of a registered model among MLflow's artifacts."""

import importlib
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from groundup.runner.files import read_object
from groundup.runner.tracking.registry import NAME

CHAT = "llm/v1/chat"
NEEDED = ("mlflow", "torch", "transformers", "accelerate")  # to serve the model
CARD = "README.md"


def log_copy(model_id: str, source: Path) -> None:
    """Log weights, tokenizer and what serving needs, in MLflow's layout."""
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
    # MLflow records this name, otherwise a path of this machine. Given only the path, it fails with this transformers.
    model.name_or_path = model.config.name_or_path = tokenizer.name_or_path = NAME
    return {"model": model, "tokenizer": tokenizer}


def _import_what_it_needs(source: Path) -> None:
    """The model_type of a variant of Llama ends with the module that registers it with transformers."""
    module = read_object(source / "config.json")["model_type"].partition("_needs_import_")[2]
    if module:
        importlib.import_module(module)


def _requirements() -> list[str]:
    return [f"{library}=={installed(library).partition('+')[0]}" for library in NEEDED]
