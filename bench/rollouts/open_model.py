"""python -m bench.rollouts.open_model MODEL PROMPTS: the same of an open model, in fp32 and in bf16.

MODEL is a published folder, such as artifacts/sft of a run that started from an open model; PROMPTS one of its
artifacts/data/prompts/*.jsonl. In bf16, ours runs under autocast, as in training, and generate on rounded weights.
"""

import argparse
import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from bench.results import ratios, row, spread, write_result
from bench.rollouts.__main__ import generate, ours, take_turns
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.model.llama import load_causal_lm
from groundup.core.rollout.prompts import load_prompts
from groundup.core.training.runtime import draw, set_up
from groundup.runner.params.training import RuntimeParams

HERE = Path(__file__).parent / "open"
BATCH_SIZE, NUM_TOKENS, MAX_PROMPT_TOKENS, SEED = 32, 40, 160, 0
PRECISIONS = ("fp32", "bf16")


def table(tokens_per_second: dict[str, dict[str, list[float]]]) -> str:
    lines = [row("precision", "groundup, tokens/s", "transformers `generate`", "times"), "|---|---:|---:|---:|"]
    for precision, speeds in tokens_per_second.items():
        mine, theirs = speeds["groundup"], speeds["generate"]
        lines.append(row(precision, spread(mine, 0), spread(theirs, 0), spread(ratios(mine, theirs), 2)))
    return "\n".join([*lines, "", "Medians over turns (least to greatest); the new tokens alone are counted."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--turns", type=int, default=6, help="the first one warms up and is not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    logging.getLogger("groundup").setLevel(logging.WARNING)
    device = set_up(RuntimeParams(num_threads=options.threads, precision="fp32"), "cpu", SEED)
    tokenizer = load_tokenizer(str(options.model))
    model = load_causal_lm(options.model, device).eval()
    model.generation_config.eos_token_id = None  # as in __main__.py
    prompts = load_prompts(options.prompts, tokenizer, MAX_PROMPT_TOKENS)
    ids = [prompt.ids for prompt in draw(prompts, BATCH_SIZE, SEED)]
    speeds: dict[str, Any] = {}
    for precision in PRECISIONS:
        half = precision == "bf16"

        def sample(seed: int, half: bool = half) -> int:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                return ours(model, tokenizer, ids, NUM_TOKENS, seed)

        theirs: PreTrainedModel = copy.deepcopy(model).bfloat16() if half else model

        def stock(seed: int, theirs: PreTrainedModel = theirs) -> int:
            return generate(theirs, tokenizer, ids, NUM_TOKENS, seed, cache=None)

        sides: dict[str, Callable[[int], int]] = {"groundup": sample, "generate": stock}
        speeds[precision] = take_turns(sides, options.turns, len(ids) * NUM_TOKENS)
    options.out.mkdir(parents=True, exist_ok=True)
    result = {
        "model": options.model.name,
        "num_threads": options.threads,
        "turns": options.turns,
        "batch_size": len(ids),
        "num_tokens": NUM_TOKENS,
        "mean_prompt_tokens": sum(map(len, ids)) / len(ids),
        "tokens_per_second": speeds,
    }
    write_result(options.out, result, table(speeds))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
