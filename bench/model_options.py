"""What position, attention, num_kv_heads and tie_embeddings of model.scratch cost: `python -m bench.model_options`.

After `dvc repro`. Speed: untrained models of the default shape, each but for one option. The variants take turns, and
each round is compared with the default of the same round: machines are noisy, ratios less so.
Bits per byte: each is trained as the stage does it, on the artifacts, with a quarter of the default's steps.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from bench.finish import finish
from bench.results import ROOT
from bench.scaling.__main__ import train_cell
from groundup.core.model.generation import Sampler
from groundup.core.model.llama import build_llama, num_parameters
from groundup.pretrain.optimizer import build_optimizer
from groundup.runner.params import Params, load_params
from groundup.runner.params.training import ModelParams
from groundup.tokenizer.tokenizer import chat_tokenizer, train_bpe

QUALITY_SHARE = 1 / 4  # of the default's steps
OPTIONS: dict[str, dict[str, object]] = {
    "default": {},
    "position: sinusoidal": {"position": "sinusoidal"},
    "attention: linear": {"attention": "linear"},
    "num_kv_heads: 1": {"num_kv_heads": 1},
    "num_kv_heads: 1, attention: linear": {"num_kv_heads": 1, "attention": "linear"},
    "tie_embeddings: false": {"tie_embeddings": False},
}
DOCUMENT = 100  # tokens of each document in a packed row
BATCH, PROMPT, NEW = 32, 48, 64  # of a rollout


def make_tokenizer(context_length: int) -> PreTrainedTokenizerFast:
    return chat_tokenizer(train_bpe(iter(["the sea"]), vocab_size=264, min_frequency=1), context_length)


def with_changes(model: ModelParams, changes: dict[str, object]) -> ModelParams:
    return model.model_copy(update={"scratch": model.scratch.model_copy(update=changes)})


def make_model(params: Params, changes: dict[str, object]) -> LlamaForCausalLM:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(params.model.context_length)
    tokenizer.add_tokens([f"<{i}>" for i in range(params.tokenizer.scratch.vocab_size - len(tokenizer))])
    return build_llama(with_changes(params.model, changes), tokenizer)


def training_step(model: LlamaForCausalLM, params: Params) -> Callable[[], int]:
    """A whole optimizer step on packed rows; returns the tokens it took."""
    optimizer = build_optimizer(model, params.pretrain)
    shape = (params.pretrain.batch_size, params.model.context_length)
    ids = torch.randint(0, params.tokenizer.scratch.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    positions = (torch.arange(shape[1]) % DOCUMENT).expand(shape)

    def step() -> int:
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, :-1]
        F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        return ids.numel()

    return step


def rollout(model: LlamaForCausalLM) -> Callable[[], int]:
    """Replies that never end, drawn as in PPO; returns the new tokens."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, 200, (BATCH, PROMPT), generator=generator).tolist()
    sampler = Sampler(-1, 0, NEW, temperature=1.0, batch_size=BATCH)

    def step() -> int:
        sampler.sample(model, prompts, seed=0)
        return BATCH * NEW

    return step


def measure(work: dict[str, Callable[[], int]], num_rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each, once a round."""
    for step in work.values():
        step()  # warm-up
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(num_rounds):
        for name, step in work.items():
            start = time.perf_counter()
            num_tokens = step()
            rates[name].append(num_tokens / (time.perf_counter() - start))
    return rates


def relative(rates: dict[str, list[float]], name: str) -> float:
    """Median over the rounds of the speed as a multiple of the default's."""
    return median(rate / default for rate, default in zip(rates[name], rates["default"], strict=True))


def train(params: Params, changes: dict[str, object]) -> float:
    """val bits per byte, of all validation documents."""
    p = params.pretrain
    shorter = {key: round(getattr(p, key) * QUALITY_SHARE) for key in ("num_steps", "warmup_steps", "validate_every")}
    cell = params.model_copy(
        update={
            "model": with_changes(params.model, changes),
            "pretrain": p.model_copy(update=shorter),
        }
    )
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = finish(folder, lambda checkpoints: train_cell(cell, ROOT / "artifacts/data/text", folder, checkpoints))
    return float(found["val_bits_per_byte"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", type=Path, default=ROOT / "bench/model_options.json")
    arguments = parser.parse_args()
    params = load_params(ROOT / "params.yaml")
    torch.set_num_threads(params.runtime.num_threads)
    models = {name: make_model(params, changes) for name, changes in OPTIONS.items()}
    training = measure({name: training_step(model, params) for name, model in models.items()}, arguments.rounds)
    rollouts = measure({name: rollout(model.eval()) for name, model in models.items()}, arguments.rounds)
    result = {
        name: {
            "num_parameters": num_parameters(model),
            "training_tokens_per_second": median(training[name]),
            "training_relative": relative(training, name),
            "rollout_tokens_per_second": median(rollouts[name]),
            "rollout_relative": relative(rollouts, name),
            "val_bits_per_byte": train(params, OPTIONS[name]),
        }
        for name, model in models.items()
    }
    sys.stdout.write("| option | parameters | training, tokens/s | x default | rollouts, tokens/s | x default ")
    sys.stdout.write("| bits per byte |\n|---|---|---|---|---|---|---|\n")
    for name, values in result.items():
        sys.stdout.write(
            f"| {name} | {values['num_parameters']:,} "
            f"| {values['training_tokens_per_second']:,.0f} | {values['training_relative']:.2f} "
            f"| {values['rollout_tokens_per_second']:,.0f} | {values['rollout_relative']:.2f} "
            f"| {values['val_bits_per_byte']:.3f} |\n"
        )
    arguments.out.write_text(json.dumps({"rounds": arguments.rounds, "options": result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
