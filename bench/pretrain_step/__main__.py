"""python -m bench.pretrain_step, after `dvc repro`: README.md beside this file."""

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.profilers import SimpleProfiler

from bench.pretrain_step.breakdown import ProfileOperators, parts
from bench.pretrain_step.loop import Loop, Network
from bench.pretrain_step.matmuls import model_flops, products_of_step
from bench.pretrain_step.page import table
from bench.results import ROOT, ratios, write_result
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.shards import TokenShards
from groundup.core.model.llama import build_llama
from groundup.core.training.callbacks import LogCurves, StepSeeds
from groundup.core.training.progress import ProgressReport
from groundup.core.training.runtime import set_up
from groundup.pretrain.data import ShardDataModule
from groundup.pretrain.pretrain import PretrainModule, ShowProgress, trainer_settings
from groundup.runner.params import Params, load_params

HERE = Path(__file__).parent


class TakeTurns(L.Callback):
    """Our turns are those of the fit that this belongs to; after each one the others have theirs."""

    def __init__(self, length: int, others: dict[str, Callable[[], float]]) -> None:
        self.length = length
        self.others = others
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def on_train_start(self, *unused: Any) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *unused: Any) -> None:
        if trainer.global_step % self.length == 0:
            self.seconds["groundup"].append(time.perf_counter() - self.start)
            for name, turn in self.others.items():
                self.seconds[name].append(turn())
            self.start = time.perf_counter()


def fit(params: Params, num_steps: int, callback: L.Callback, profiler: SimpleProfiler | None) -> None:
    """Training as in the stage, without validation and checkpoints."""
    set_up(params.runtime, "cpu", params.pretrain.seed)
    pretrain = params.pretrain.model_copy(update={"num_steps": num_steps, "warmup_steps": 0})
    model = build_llama(params.model, load_tokenizer(str(ROOT / "artifacts/tokenizer")))
    data = ShardDataModule(TokenShards(ROOT / "artifacts/shards", params.model.context_length), pretrain)
    progress = ShowProgress(ProgressReport("pretrain", num_steps, "tokens"), data.tokens_per_step)
    trainer = L.Trainer(
        **trainer_settings(pretrain, params.runtime, "cpu"),
        profiler=profiler,
        callbacks=[
            LogCurves(lambda step, **values: None, pretrain.log_every),
            progress,
            StepSeeds(pretrain.seed),
            callback,
        ],
    )
    trainer.fit(PretrainModule(model, pretrain, compiled=False), datamodule=data)


def hand_written(loop: Loop, num_steps: int) -> float:
    """Seconds of a turn, without the deterministic kernels of the stages: such a loop does not ask for them."""
    torch.use_deterministic_algorithms(False)
    start = time.perf_counter()
    loop.train(num_steps)
    seconds = time.perf_counter() - start
    torch.use_deterministic_algorithms(True)
    return seconds


def make_loop(params: Params, inside_documents: bool) -> Loop:
    m, context = params.model.scratch, params.model.context_length
    torch.manual_seed(params.pretrain.seed)
    vocab_size = len(load_tokenizer(str(ROOT / "artifacts/tokenizer")))
    network = Network(vocab_size, context, m.hidden_size, m.num_layers, m.num_heads, m.intermediate_size)
    tokens = np.memmap(ROOT / "artifacts/shards/00000.bin", dtype=np.uint16, mode="r")
    documents = None
    if inside_documents:
        starts = np.fromfile(ROOT / "artifacts/shards/00000.idx", dtype=np.uint64)
        documents = np.searchsorted(starts, np.arange(len(tokens), dtype=np.uint64), side="right")
    return Loop(network, tokens, documents, params.pretrain.batch_size, context, params.pretrain.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="the first one warms up and is not counted")
    parser.add_argument("--steps-per-turn", type=int, default=12)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    logging.getLogger("groundup").setLevel(logging.WARNING)
    params = load_params(ROOT / "params.yaml")
    torch.set_num_threads(params.runtime.num_threads)
    rows, context, length = params.pretrain.batch_size, params.model.context_length, options.steps_per_turn
    tokens_per_turn = rows * context * length
    if params.pretrain.accumulate != 1 or params.model.scratch.num_kv_heads != params.model.scratch.num_heads:
        parser.error("the hand-written loop knows no accumulation and no grouped-query attention")

    model = build_llama(params.model, load_tokenizer(str(ROOT / "artifacts/tokenizer")))
    products = products_of_step(model, rows, context)
    loops = {"loop": make_loop(params, False), "loop_documents": make_loop(params, True)}
    of_products: dict[str, list[float]] = defaultdict(list)

    def multiply() -> float:
        """Seconds of one step's products; the median of a few goes."""
        goes = []
        for _ in range(max(1, length // 2)):
            seconds = [product.seconds() for product in products]
            goes.append(sum(seconds))
            for product, taken in zip(products, seconds, strict=True):
                of_products[product.name].append(taken)
        return float(np.median(goes))

    others: dict[str, Callable[[], float]] = {"matmuls": multiply}
    for name, loop in loops.items():
        others[name] = lambda loop=loop: hand_written(loop, length)  # type: ignore[misc]
    turns = TakeTurns(length, others)
    fit(params, options.turns * length, turns, None)
    counted = {name: seconds[1:] for name, seconds in turns.seconds.items()}

    profiler = SimpleProfiler()
    fit(params, 2 * length, L.Callback(), profiler)
    operators = ProfileOperators(length)
    fit(params, 2 * length, operators, None)

    flops = model_flops(model, rows, context)
    matmul_flops = sum(product.flops for product in products)
    rates = [matmul_flops / seconds for seconds in counted.pop("matmuls")]
    speeds = {name: [tokens_per_turn / seconds for seconds in taken] for name, taken in counted.items()}
    utilisation = {
        name: ratios([flops * speed / (rows * context) for speed in values], rates) for name, values in speeds.items()
    }
    result = {
        "settings": {"turns": options.turns, "steps_per_turn": length, "num_threads": params.runtime.num_threads},
        "model_flops_per_step": flops,
        "matmul_flops_per_step": matmul_flops,
        "matmul_flops_per_second": rates,
        "tokens_per_second": speeds,
        "model_flops_utilisation": utilisation,
        "times_loop": {name: ratios(speeds["groundup"], speeds[name]) for name in loops},
        "step_milliseconds": parts(profiler, 2 * length),
        "operator_shares": operators.shares(at_least=0.015),
        "products": [
            {"name": product.name, "shape": product.shape, "count": product.count, "flops": product.flops}
            | {"flops_per_second": product.flops / float(np.median(of_products[product.name]))}
            for product in products
        ],
    }
    write_result(options.out, result, table(result))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
