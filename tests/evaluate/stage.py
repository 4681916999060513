"""The body of the evaluate stage on a folder with everything that it reads."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.shards import write_shards
from groundup.core.model.llama import save_model
from groundup.evaluate.evaluate import evaluate
from groundup.evaluate.measures.measure import Data
from groundup.runner.base import Base
from groundup.runner.checkpoints import Processes
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.params.training import RuntimeParams
from groundup.runner.steps import FinishedSteps

REPLIES = ["the old sea", "new", None, "warm sea", "cold"]
FOLDERS = ("shards", "text", "chats", "preferences", "prompts", "evaluation", "judge")


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def write_project(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """The outputs of the stages before evaluate; the aligned model equals SFT."""
    base = copy.deepcopy(model)
    with torch.no_grad():
        base.model.embed_tokens.weight.mul_(0.5)
    reward = LlamaForSequenceClassification(LlamaConfig(**{**model.config.to_dict(), "num_labels": 1}))
    for name, made in (("base", base), ("sft", model), ("aligned", model), ("reward", reward)):
        save_model(made, tokenizer, folder / name, "card")
    texts = ["The sea is warm.", "Do you like music?", "The old town", "Hello", "a river"]
    write_jsonl(folder / "text/test.jsonl", [{"id": t, "source": "towns", "text": t} for t in texts])
    write_shards(tokenizer, folder / "text/test.jsonl", folder / "shards", 50, FinishedSteps(folder / "s"))
    reply = {"role": "assistant", "content": "the sea is cold"}
    write_jsonl(folder / "text/train.jsonl", [{"text": "I said: the sea is warm"}])
    write_jsonl(folder / "chats/train.jsonl", [{"messages": [*chat("Hello"), reply]}])
    write_jsonl(
        folder / "preferences/train.jsonl",
        [{"chosen": [*chat("Hello"), reply], "rejected": [*chat("Do you like it"), reply]}],
    )
    write_jsonl(folder / "prompts/train.jsonl", [{"messages": chat("Hello")}])
    write_jsonl(
        folder / "prompts/test.jsonl",
        [
            {"id": f"{i}", "conversation_id": f"c{i // 2}", "source": "x", "messages": chat(t), "reply": REPLIES[i]}
            for i, t in enumerate(texts)
        ],
    )
    write_jsonl(
        folder / "evaluation/topic.jsonl",
        [
            {"query": chat(t), "choices": ["the sea", "music"], "gold": i % 2, "group_id": t}
            for i, t in enumerate(texts)
        ],
    )
    words = ["warm", "cold", "old", "new"]
    write_jsonl(
        folder / "judge/conversations.jsonl",
        [
            {
                "id": f"{i}",
                "messages": [*chat(words[i % 4]), {"role": "assistant", "content": f"{words[i % 4]} sea"}],
            }
            for i in range(24)
        ],
    )
    write_jsonl(
        folder / "align/evaluation_points.jsonl",
        [
            {
                "iteration": iteration,
                "prompt": prompt,
                "conversation_id": f"c{prompt}",
                "messages": chat("Hello"),
                "reply": words[(iteration + prompt) % 4],
                "ended": True,
                "score": float(iteration * prompt),
                "score_std": 0.0,
                "kl": float(iteration),
                "num_tokens": 1,
                "kept": iteration == 1,
            }
            for iteration in range(3)
            for prompt in range(4)
        ],
    )


def run_evaluate(
    root: Path,
    params: EvaluateParams,
    log: Any,
    *,
    points: Path,
    out: str,
    aligned: str = "aligned",
    open_base: Base | None = None,
    processes: Processes | None = None,
) -> dict[str, Any]:
    """points: evaluation_points.jsonl of align; out, aligned: folders in root."""
    return evaluate(
        base=root / "base",
        sft=root / "sft",
        reward=root / "reward",
        aligned=root / aligned,
        data=Data(**{folder: root / folder for folder in FOLDERS}),
        points=points,
        out=root / out,
        params=params,
        runtime=RuntimeParams(num_threads=1, precision="fp32"),
        device="cpu",
        work=root / "evaluate_work",
        kept=root / "kept",
        model_judge=root / "base" if params.judge == "model" else None,
        open_base=open_base,
        processes=processes or Processes(),
        log=log,
    )
