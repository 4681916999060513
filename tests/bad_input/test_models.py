"""Damaged models, tokenizers and shards, each in the stages that read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bad_input.conftest import Case, each_fails_clearly
from tests.bad_input.spoil import (
    Spoil,
    an_empty_folder,
    both,
    delete,
    edit_json,
    edit_weights,
    nan_weights,
    replace,
    truncate,
    write,
)

pytestmark = pytest.mark.tried("bad input", "models")

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"


def damaged(stage: str, folder: str, name: str, spoil: Spoil, what: str) -> Case:
    where = f"artifacts/{folder}"
    return Case(
        f"{stage}, {folder}, {name}", stage, spoil, f"{what} | {where} | {where}` brings back what DVC recorded"
    )


def edit_tokenizer(folder: str, edit: Callable[[dict[str, Any]], None]) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / "artifacts" / folder / TOKENIZER
        values = json.loads(path.read_text(encoding="utf-8"))
        edit(values)
        path.write_text(json.dumps(values), encoding="utf-8")

    return spoil


def grow_vocabulary(folder: str) -> Spoil:
    """Tokenizer of another run: one token more."""
    return edit_tokenizer(
        folder, lambda t: t["added_tokens"].append({**t["added_tokens"][-1], "id": 300, "content": "<|more|>"})
    )


def swap_tokens(folder: str) -> Spoil:
    """Tokenizer of another run, of the same size."""

    def edit(values: dict[str, Any]) -> None:
        vocabulary = values["model"]["vocab"]
        vocabulary["ell"], vocabulary["rou"] = vocabulary["rou"], vocabulary["ell"]

    return edit_tokenizer(folder, edit)


def half_dropped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if "mlp" not in name}


def of_another_size(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([weight, weight]) for name, weight in weights.items()}


MODELS = [("sft", "base"), ("reward", "sft"), ("align", "reward"), ("evaluate", "aligned")]
CASES = [
    case
    for stage, folder in MODELS
    for case in (
        damaged(stage, folder, "weights cut off", truncate(f"artifacts/{folder}/{WEIGHTS}"), "damaged or incomplete"),
        damaged(stage, folder, "NaN weights", nan_weights(f"artifacts/{folder}"), "weights are not finite"),
        damaged(stage, folder, "tokenizer of another run", grow_vocabulary(folder), "they are of different runs"),
    )
]
CASES += [
    damaged("sft", "base", "empty folder", an_empty_folder("artifacts/base"),
            "it has no config.json; it has no generation_config.json"),
    damaged("sft", "base", "no weights", delete(f"artifacts/base/{WEIGHTS}"), "it has no weights"),
    damaged("sft", "base", "weights empty", write(f"artifacts/base/{WEIGHTS}", b""), "damaged or incomplete"),
    damaged("sft", "base", "weights junk", write(f"artifacts/base/{WEIGHTS}", b"\x80\x02junk" * 99),
            "damaged or incomplete"),
    damaged("sft", "base", "some weights missing", edit_weights("artifacts/base", half_dropped),
            "missing or have another shape"),
    damaged("sft", "base", "weights of another size", edit_weights("artifacts/base", of_another_size),
            "missing or have another shape"),
    damaged("sft", "base", "config of another size", edit_json(f"artifacts/base/{CONFIG}", hidden_size=64),
            "missing or have another shape"),
    damaged("sft", "base", "config of a smaller vocabulary", edit_json(f"artifacts/base/{CONFIG}", vocab_size=99),
            "they are of different runs"),
    damaged("sft", "base", "config of a larger vocabulary", edit_json(f"artifacts/base/{CONFIG}", vocab_size=9999),
            "missing or have another shape"),
    damaged("sft", "base", "no generation config", delete("artifacts/base/generation_config.json"),
            "it has no generation_config.json"),
    damaged("sft", "base", "wrong architecture", edit_json(f"artifacts/base/{CONFIG}", architectures=["BertModel"]),
            "config.json is of BertModel, not of LlamaForCausalLM"),
    damaged("sft", "base", "no architecture", edit_json(f"artifacts/base/{CONFIG}", architectures=None),
            "config.json"),
    damaged("sft", "base", "no tokenizer", delete(f"artifacts/base/{TOKENIZER}"), "tokenizer.json is missing"),
    damaged("sft", "base", "tokenizer cut off", truncate(f"artifacts/base/{TOKENIZER}"), "the tokenizer in"),
    damaged("sft", "base", "tokenizer without roles", replace(f"artifacts/base/{TOKENIZER}", "<|user|>", "<|human|>"),
            "they are of different runs"),
    Case("sft, base, config cut off", "sft", truncate(f"artifacts/base/{CONFIG}"),
         f"not valid JSON | artifacts/base/{CONFIG} | `dvc repro` writes it again"),
    Case("sft, base, config a list", "sft", write(f"artifacts/base/{CONFIG}", "[]"),
         f"not an object | artifacts/base/{CONFIG} | `dvc repro` writes it again"),
    damaged("align", "reward", "a language model",
            both(delete("artifacts/reward"), lambda root: (root / "artifacts/base").rename(root / "artifacts/reward")),
            "config.json is of LlamaForCausalLM, not of LlamaForSequenceClassification"),
    damaged("align", "sft", "no model card", delete("artifacts/sft/README.md"), "it has no README.md"),
    Case("align, another vocabulary of the same size", "align", swap_tokens("reward"),
         "differs from that of sft | the tokenizer of reward | run `dvc repro`"),
    Case("evaluate, another vocabulary of the same size", "evaluate", swap_tokens("base"),
         "differs from that of sft | the tokenizer of base | run `dvc repro`"),
    damaged("pretrain", "tokenizer", "empty folder", an_empty_folder("artifacts/tokenizer"),
            "tokenizer.json is missing"),
    damaged("pretrain", "tokenizer", "cut off", truncate(f"artifacts/tokenizer/{TOKENIZER}"), "the tokenizer in"),
    damaged("pretrain", "shards", "no manifest", delete("artifacts/shards/manifest.json"),
            "manifest.json cannot be read"),
    damaged("pretrain", "shards", "manifest cut off", truncate("artifacts/shards/manifest.json"),
            "manifest.json cannot be read"),
    damaged("pretrain", "shards", "a shard missing", delete("artifacts/shards/00000.bin"), "00000.bin missing"),
    damaged("pretrain", "shards", "a shard cut off", truncate("artifacts/shards/00000.bin"),
            "00000.bin missing or of another size"),
    damaged("pretrain", "shards", "an index cut off", truncate("artifacts/shards/00000.idx"),
            "00000.idx missing or of another size"),
    Case("pretrain, shards of another tokenizer", "pretrain",
         lambda root: (p := (root / "artifacts/shards/00000.bin")).write_bytes(b"\xff\xff" + p.read_bytes()[2:]),
         "token 65535 | artifacts/shards | `dvc repro tokenizer`"),
]  # fmt: skip

test_it_is_said_and_nothing_is_lost = each_fails_clearly(CASES)
