"""python -m bench.open.restart {keep,restore} NAME: README.md beside this file."""

import argparse
import shutil
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from bench.open.__main__ import HERE, add_name, open_params
from bench.results import ROOT, run_command
from groundup.app.export.hf import round_to_bf16
from groundup.core.training.adapters import ignore_deprecation, merged
from groundup.runner.files import remove

PARENTS = {"sft": "base", "reward": "sft"}  # stage -> the model that its adapter goes on top of
CLASSES = {"sft": AutoModelForCausalLM, "reward": AutoModelForSequenceClassification}
WEIGHTS, ADAPTER = "model.safetensors", Path("adapter/adapter_model.safetensors")
OF_PARENT = ("tokenizer.json", "chat_template.jinja")  # the same in all of them, and large


def keep(model: Path, folder: Path) -> None:
    """What `restore` needs besides the parent: the adapter, rounded to bf16, and the small files of `model`."""
    if not (model / ADAPTER).is_file():
        raise ValueError(f"{model} has no LoRA adapter: set lora of its stage in params.yaml, and run it")
    remove(folder)
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(WEIGHTS, *OF_PARENT))
    (folder / ADAPTER).with_name("README.md").unlink()  # peft's form, not filled in
    round_to_bf16(folder / ADAPTER)


def restore(stage: str, folder: Path, parent: Path, model: Path) -> None:
    """Write `model` from what `keep` wrote to `folder`, and from `parent`, the model that its stage started from."""
    remove(model)
    shutil.copytree(folder, model)
    for name in OF_PARENT:
        shutil.copyfile(parent / name, model / name)
    ignore_deprecation()
    config = AutoConfig.from_pretrained(folder)
    plain = CLASSES[stage].from_pretrained(parent, config=config, dtype=torch.float32, use_safetensors=True)
    merged(PeftModel.from_pretrained(plain, folder / "adapter")).save_pretrained(model)


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep what SFT and reward trained, or put it back in artifacts/.")
    parser.add_argument("action", choices=("keep", "restore"))
    add_name(parser)
    arguments = parser.parse_args()
    open_params()  # of an open model, whose weights everyone can fetch
    for stage, parent in PARENTS.items():
        model, folder = ROOT / "artifacts" / stage, HERE / arguments.name / "restart" / stage
        if arguments.action == "keep":
            keep(model, folder)
        else:
            restore(stage, folder, ROOT / "artifacts" / parent, model)


if __name__ == "__main__":
    run_command(main)
