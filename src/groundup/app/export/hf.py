"""Export a model as a plain Hugging Face directory, or its LoRA adapter as a plain PEFT directory."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from groundup.app.export.target import written
from groundup.core.formats.origin import origin_of
from groundup.core.model.check import CAUSAL, check_model
from groundup.runner.files import read_object, write_json

ADAPTER = "adapter"  # folder in the model's directory where pretrain, sft and align put it
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
OF_THIS_LOADING = ("backend", "is_local", "local_files_only")  # how the tokenizer was loaded when it was saved
CARD = """---
library_name: peft
---
# groundup adapter

A LoRA adapter that goes on top of {base}:

    base = AutoModelForCausalLM.from_pretrained("its folder")
    model = PeftModel.from_pretrained(base, "this directory")

With another base model it says nothing of use.

"""
EXPORTED = "the groundup {0} model, which `groundup export --to hf --model {0}` gives"
BASES = {
    "base": "the model that model.base names, with embeddings for this tokenizer (`groundup merge` makes them)",
    "sft": EXPORTED.format("base"),
    "aligned": EXPORTED.format("sft"),
    "champion": EXPORTED.format("sft"),
}


def export_hf(model: Path, target: Path, prepared: Path | None = None) -> None:
    """Export weights, tokenizer, generation config and card, as plain transformers, TRL and PEFT load them.

    prepared: report.json of the prepare stage that the model's data come from.
    """
    check_model(model, CAUSAL)
    with written(target) as beside:
        shutil.copytree(model, beside, ignore=shutil.ignore_patterns(ADAPTER))
        _mend_tokenizer(beside)
        _name_licences(beside / "README.md", model, prepared)


def export_adapter(model: Path, name: str, target: Path, prepared: Path | None = None, *, bf16: bool = False) -> None:
    """Export the adapter that a LoRA run saved beside its merged weights, with the tokenizer.

    name: the model's. bf16: with its weights rounded to bf16, in half the bytes.
    """
    if not all((model / ADAPTER / file).is_file() for file in ADAPTER_FILES):
        raise ValueError(
            f"{model} has no LoRA adapter: all its weights were trained. `groundup export --to hf` exports them; "
            "pretrain.lora, sft.lora or align.lora in params.yaml trains an adapter"
        )
    check_model(model, CAUSAL)
    with written(target) as beside:
        beside.mkdir()
        tokenizer = [*sorted(model.glob("tokenizer*.json")), model / "chat_template.jinja"]
        for file in [*(model / ADAPTER / name for name in ADAPTER_FILES), *tokenizer]:
            shutil.copyfile(file, beside / file.name)
        if bf16:
            round_to_bf16(beside / ADAPTER_FILES[1])
        _mend_tokenizer(beside)
        card = (model / "README.md").read_text(encoding="utf-8").partition("---\n#")[2]
        (beside / "README.md").write_text(CARD.format(base=BASES[name]) + f"#{card}", encoding="utf-8")
        _name_licences(beside / "README.md", model, prepared)


def round_to_bf16(weights: Path) -> None:
    """Of a file of safetensors."""
    rounded = {name: weight.to(torch.bfloat16) for name, weight in load_file(weights).items()}
    save_file(rounded, weights, metadata={"format": "pt"})


def _name_licences(card: Path, model: Path, prepared: Path | None) -> None:
    """Of the data, for a model that comes from an open one, whose licence the card names: its readers lack the run."""
    if prepared is None or not prepared.is_file() or origin_of(model) is None:
        return
    sources = read_object(prepared)["sources"]
    lines = [f"- {source['name']}: {source['licence'] or 'no licence given'}" for source in sources]
    with card.open("a", encoding="utf-8") as file:
        file.write("\n## Licences of the data\n\n" + "\n".join(lines) + "\n")


def _mend_tokenizer(folder: Path) -> None:
    """Name a tokenizer class that every version of transformers has."""
    path = folder / "tokenizer_config.json"
    kept = {key: value for key, value in read_object(path).items() if key not in OF_THIS_LOADING}
    write_json(path, kept | {"tokenizer_class": "PreTrainedTokenizerFast"})
