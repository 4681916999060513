"""A checkout in which every stage has run, small enough to copy for each case."""

import random
import shutil
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.shards import write_shards
from groundup.core.model.llama import save_model
from groundup.runner.files import digest_path, dvc_md5, remove, write_json
from groundup.runner.pipeline import read_pipeline
from groundup.runner.steps import FinishedSteps
from tests.conftest import ROOT, SENTENCES
from tests.prepare.made_up import OPENINGS, add_package, make_conversation, make_params
from tests.presets import preset

EARLIER = "0123456789abcdef"  # a work dir of other inputs
STAGES = ("prepare", "tokenizer", "pretrain", "sft", "reward", "align", "evaluate")
SMALL: dict[str, dict[str, Any]] = {
    "pretrain": {
        "num_steps": 4, "batch_size": 2, "warmup_steps": 1, "log_every": 1, "validate_every": 2,
        "checkpoint_every": 2, "sample_tokens": 4,
    },
    "sft": {"accumulate": 1, "log_every": 1, "sample_tokens": 4},
    "reward": {"batch_size": 4, "log_every": 1, "bootstrap_samples": 10},
    "align": {
        "num_iterations": 2, "minibatch_size": 4,
        "rollout": {
            "max_prompt_tokens": 64,
            "max_new_tokens": 4,
            "temperature": 1.0,
            "batch_size": 4,
            "num_elsewhere": 0,
        },
        "validation": {"every": 2, "num_prompts": 2, "sample_every": 2, "num_samples": 2},
        "test": {"num_prompts": 2, "bootstrap_samples": 10},
    },
    "evaluate": {"max_new_tokens": 4, "num_prompts": 2, "num_documents": 2, "bootstrap_samples": 10},
    "runtime": {"num_threads": 1},
}  # fmt: skip


def build_checkout(root: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    for name in ("src", "stages"):
        (root / name).symlink_to(ROOT / name)
    for name in ("dvc.yaml", "base.lock"):
        shutil.copyfile(ROOT / name, root / name)
    shutil.copyfile(ROOT / "data/README.md", make(root / "data/README.md"))
    package = add_package(root / "site", "talk", conversations())
    params = preset("smoke").model_dump(mode="json")
    for section, values in SMALL.items():
        params[section] |= values
    params["tokenizer"]["scratch"] |= {"vocab_size": 300, "min_frequency": 1, "curve_vocab_sizes": [280, 300]}
    params["model"]["scratch"]["num_layers"] = 1
    params["prepare"] = make_params([package]).model_dump(mode="json")
    write_params(root, params)
    _write_data(root / "artifacts/data")
    tokenizer.save_pretrained(root / "artifacts/tokenizer")
    _write_shards(root, tokenizer)
    _write_models(root / "artifacts", tokenizer)
    for stage in STAGES:
        report = root / f"artifacts/reports/{stage}"
        make(report / "report.md").write_text(f"# {stage}\n", encoding="utf-8")
        make(root / f"metrics/{stage}.csv").write_text("step,loss\n1,2.5\n2,2.0\n", encoding="utf-8")
        write_json(root / f"metrics/{stage}.json", {"loss": 2.0, "fingerprint": ["f" * 16]})
        make(root / f".work/{stage}/{EARLIER}/scratch/checkpoint").write_text("step 2", encoding="utf-8")
    write_jsonl(root / "artifacts/reports/align/evaluation_points.jsonl", map(evaluation_point, range(2)))
    _write_lock(root)
    return root


def make(path: Path) -> Path:
    """The path, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_params(root: Path, params: dict[str, Any]) -> None:
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params, file)


def read_params(root: Path) -> dict[str, Any]:
    return YAML(typ="safe").load((root / "params.yaml").read_text(encoding="utf-8"))


def conversations() -> dict[str, Any]:
    rng = random.Random(1)
    return {f"c{i:02}": make_conversation(rng, 2 + i % 5, 1 + i % 10, OPENINGS[i % 2]) for i in range(60)}


def chat(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


def _write_data(data: Path) -> None:
    for split in ("train", "val", "test"):
        names = [f"{split}{i}" for i in range(8)]
        write_jsonl(
            data / f"text/{split}.jsonl",
            ({"id": n, "source": "talk", "text": t} for n, t in zip(names, SENTENCES * 2, strict=True)),
        )
        write_jsonl(
            data / f"chats/{split}.jsonl",
            ({"id": n, "source": "talk", "messages": chat(f"hello {n}", "yes I like music")} for n in names),
        )
        write_jsonl(data / f"preferences/{split}.jsonl", map(preference, names))
        write_jsonl(
            data / f"prompts/{split}.jsonl",
            (
                {"id": n, "conversation_id": n, "source": "talk", "messages": chat("How are you?"), "reply": "fine"}
                for n in names
            ),
        )
    item = {"query": chat("The sea"), "choices": ["is warm", "is green"], "gold": 0}
    write_jsonl(data / "evaluation/topic.jsonl", ({**item, "group_id": f"g{i}"} for i in range(4)))
    for name in ("monitor", "judge"):
        write_jsonl(data / f"{name}/conversations.jsonl", [])


def preference(name: str) -> dict[str, Any]:
    sides = {"chosen": chat(f"question {name}", "yes I like music"), "rejected": chat(f"question {name}", "no")}
    ids = {"chosen_id": f"{name}a", "rejected_id": f"{name}b"}
    return {
        "id": name,
        "source": "talk",
        "kind": "rating",
        **sides,
        "margin": 0.2,
        **ids,
        "chosen_rating": 8.0,
        "rejected_rating": 6.0,
        "wrong_from": "elsewhere",  # read of relevance pairs alone
    }


def evaluation_point(iteration: int) -> dict[str, Any]:
    of_prompt = {"prompt": 0, "conversation_id": "val0", "messages": chat("How are you?"), "reply": "well"}
    return {"iteration": iteration, **of_prompt, "score": 0.1, "score_std": 0.0, "kl": 0.0, "kept": iteration == 1}


def _write_shards(root: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    text, steps = root / "text.jsonl", root / "steps"
    write_jsonl(text, ({"text": sentence} for sentence in SENTENCES * 4))
    write_shards(tokenizer, text, root / "artifacts/shards", 1000, FinishedSteps(steps))
    remove(text)
    remove(steps)


def _write_models(artifacts: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for name in ("base", "sft", "aligned"):
        save_model(LlamaForCausalLM(LlamaConfig(**config)), tokenizer, artifacts / name, f"# {name}\n")
    reward = LlamaForSequenceClassification(LlamaConfig(**config, num_labels=1))
    save_model(reward, tokenizer, artifacts / "reward", "# reward\n")


def _write_lock(root: Path) -> None:
    """dvc.lock as if DVC had recorded the outputs that are there."""
    stages = {
        stage: {"outs": [{"path": out, "md5": dvc_md5(root / out)} for out in spec.outs if (root / out).exists()]}
        for stage, spec in read_pipeline(root).items()
    }
    with (root / "dvc.lock").open("w", encoding="utf-8") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)


def snapshot(root: Path, but: tuple[str, ...] = ()) -> dict[str, tuple[str, int]]:
    """Every file's digest and time of change; `but` names folders whose files may come and go."""
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {
        name: (digest_path(path), path.stat().st_mtime_ns) for name, path in found.items() if not name.startswith(but)
    }
