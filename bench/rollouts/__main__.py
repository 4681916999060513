"""python -m bench.rollouts, after `dvc repro`: README.md beside this file."""

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from bench.results import ROOT, ratios, row, spread, write_result
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.model.generation import Sampler
from groundup.core.rollout.prompts import load_prompts
from groundup.core.training.runtime import draw, set_up
from groundup.runner.params import load_params

HERE = Path(__file__).parent
MODEL = ROOT / "artifacts/sft"
NO_TOKEN = -1  # as end-of-turn: no reply ends before its last token, so all have the same length
CACHES = {"generate": None, "generate_static_cache": "static"}
NAMES = {
    "groundup": "groundup",
    "generate": "transformers `generate`",
    "generate_static_cache": "transformers `generate`, static cache",
}


def ours(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]], num_tokens: int, seed: int
) -> int:
    """Tokens drawn."""
    sampler = Sampler(NO_TOKEN, tokenizer.pad_token_id, num_tokens, temperature=1.0, batch_size=len(prompts))
    replies = sampler.sample(model, prompts, seed)
    return sum(len(tokens) for tokens in replies.tokens)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    num_tokens: int,
    seed: int,
    cache: str | None,
) -> int:
    """Tokens drawn. The model's own generation config names the tokens that are never drawn, here and in ours."""
    torch.manual_seed(seed)
    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        max_new_tokens=num_tokens,
        pad_token_id=tokenizer.pad_token_id,
        cache_implementation=cache,
    )
    out = model.generate(**padded, generation_config=config)
    return int(out.shape[0] * (out.shape[1] - padded["input_ids"].shape[1]))


def take_turns(sides: dict[str, Callable[[int], int]], num_turns: int, num_tokens: int) -> dict[str, list[float]]:
    """Tokens a second of each turn; the first turn warms up and is not counted."""
    speeds: dict[str, list[float]] = defaultdict(list)
    for turn in range(num_turns):
        for name, side in sides.items():
            # Ours as in the stage; generate without what fills its new memory with NaN.
            torch.use_deterministic_algorithms(name == "groundup")
            start = time.perf_counter()
            drawn = side(turn)
            seconds = time.perf_counter() - start
            if drawn != num_tokens:
                raise RuntimeError(f"{name} drew {drawn} tokens, not {num_tokens}: the sides do not do the same work")
            if turn > 0:
                speeds[name].append(drawn / seconds)
    return speeds


def table(settings: Sequence[dict[str, Any]]) -> str:
    lines = [row("batch, new tokens", "", "tokens/s", "groundup's speed over its"), "|---|---|---:|---:|"]
    for setting in settings:
        speeds = setting["tokens_per_second"]
        for side, name in NAMES.items():
            times = "" if side == "groundup" else spread(setting["times"][side], 2)
            lines.append(
                row(f"{setting['batch_size']}, {setting['num_tokens']}", name, spread(speeds[side], 0), times)
            )
    return "\n".join([*lines, "", "Medians over turns (least to greatest); the new tokens alone are counted."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=16, help="the first one warms up and is not counted")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    logging.getLogger("groundup").setLevel(logging.WARNING)
    params = load_params(ROOT / "params.yaml")
    set_up(params.runtime, "cpu", params.align.seed)
    tokenizer = load_tokenizer(str(MODEL))
    model = LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    # Not None as an argument: generate would put the model's own back.
    model.generation_config.eos_token_id = None
    prompts = load_prompts(
        ROOT / "artifacts/data/prompts/train.jsonl", tokenizer, params.align.rollout.max_prompt_tokens
    )
    settings = []
    rollout = params.align.rollout
    for batch_size, num_tokens in ((32, 64), (rollout.batch_size, rollout.max_new_tokens)):
        ids = [prompt.ids for prompt in draw(prompts, batch_size, params.align.seed)]
        sides: dict[str, Callable[[int], int]] = {
            "groundup": lambda seed, ids=ids, num_tokens=num_tokens: ours(  # type: ignore[misc]
                model, tokenizer, ids, num_tokens, seed
            )
        }
        for name, cache in CACHES.items():
            sides[name] = lambda seed, ids=ids, num_tokens=num_tokens, cache=cache: generate(  # type: ignore[misc]
                model, tokenizer, ids, num_tokens, seed, cache
            )
        speeds = take_turns(sides, options.turns, batch_size * num_tokens)
        settings.append(
            {
                "batch_size": batch_size,
                "num_tokens": num_tokens,
                "mean_prompt_tokens": sum(map(len, ids)) / len(ids),
                "tokens_per_second": speeds,
                "times": {name: ratios(speeds["groundup"], speeds[name]) for name in CACHES},
            }
        )
    result = {"turns": options.turns, "num_threads": params.runtime.num_threads, "settings": settings}
    write_result(options.out, result, table(settings))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
