"""python -m bench.quality, after `dvc repro`: README.md beside this file."""

import argparse
import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from bench.results import ROOT, row, spread, write_result
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.jsonl import read_jsonl
from groundup.core.formats.shards import TokenShards
from groundup.core.model.bits_per_byte import bits_per_byte
from groundup.core.model.llama import build_llama, num_parameters
from groundup.core.training.runtime import set_up
from groundup.pretrain.data import ShardDataModule
from groundup.pretrain.optimizer import build_optimizer, warmup_stable_decay
from groundup.pretrain.pretrain import VALIDATION_BATCH, PretrainModule, trainer_settings
from groundup.runner.params import Params, load_params
from groundup.runner.params.training import PretrainParams

HERE = Path(__file__).parent
OPTIMIZERS = ("muon", "adamw")
NO_LIMIT = 1_000_000  # steps: the clock ends the run

logger = logging.getLogger(__name__)


class TimedPretrain(PretrainModule):
    """The module of the stage; its schedule follows the share of the time that is over, not of the steps."""

    def __init__(self, model: Any, params: PretrainParams, seconds: float) -> None:
        super().__init__(model, params, compiled=False)
        self.seconds = seconds

    def on_train_start(self) -> None:
        self.start = time.perf_counter()

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.params)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def factor(self, step: int) -> float:
        p = self.params
        over = 0.0 if step == 0 else (time.perf_counter() - self.start) / self.seconds
        return max(0.0, warmup_stable_decay(int(over * p.num_steps), p.num_steps, p.warmup_steps, p.decay_fraction))

    def on_train_batch_end(self, *unused: Any) -> None:
        if time.perf_counter() - self.start >= self.seconds:
            self.trainer.should_stop = True


def train(params: Params, optimizer: str, seconds: float) -> dict[str, float]:
    tokenizer = load_tokenizer(str(ROOT / "artifacts/tokenizer"))
    set_up(params.runtime, "cpu", params.pretrain.seed)
    model = build_llama(params.model, tokenizer)
    pretrain = params.pretrain.model_copy(update={"optimizer": optimizer})
    endless = pretrain.model_copy(update={"num_steps": NO_LIMIT})
    data = ShardDataModule(TokenShards(ROOT / "artifacts/shards", params.model.context_length), endless)
    trainer = L.Trainer(**trainer_settings(endless, params.runtime, "cpu"))
    module = TimedPretrain(model, pretrain, seconds)
    trainer.fit(module, datamodule=data)
    taken = time.perf_counter() - module.start
    documents = read_jsonl(ROOT / "artifacts/data/text/val.jsonl", ("text", "source"))
    value = bits_per_byte(model, tokenizer, documents, params.model.context_length, VALIDATION_BATCH).overall
    return {
        "val_bits_per_byte": value,
        "num_steps": trainer.global_step,
        "num_tokens": trainer.global_step * data.tokens_per_step,
        "num_parameters": num_parameters(model),
        "train_seconds": taken,
    }


def table(result: dict[str, Any]) -> str:
    lines = [row("optimizer", "val bits per byte", "steps", "tokens/s"), "|---|---:|---:|---:|"]
    for optimizer, runs in result["runs"].items():
        lines.append(
            row(
                optimizer,
                spread([run["val_bits_per_byte"] for run in runs], 3),
                spread([run["num_steps"] for run in runs], 0),
                spread([run["num_tokens"] / run["train_seconds"] for run in runs], 0),
            )
        )
    runs = [run for of_optimizer in result["runs"].values() for run in of_optimizer]
    lines += [
        "",
        f"{result['seconds']:.0f} s of training each, {runs[0]['num_parameters']:,} parameters; median (least to "
        f"greatest) of {result['turns']} runs.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    logging.getLogger("groundup").setLevel(logging.WARNING)
    params = load_params(ROOT / "params.yaml")
    runs: dict[str, list[dict[str, float]]] = {optimizer: [] for optimizer in OPTIMIZERS}
    for turn in range(options.turns):
        for optimizer in OPTIMIZERS:
            runs[optimizer].append(train(params, optimizer, options.seconds))
            value = runs[optimizer][-1]["val_bits_per_byte"]
            logger.info("turn %d of %d, %s: %.3f", turn + 1, options.turns, optimizer, value)
    result = {
        "seconds": options.seconds,
        "turns": options.turns,
        "num_threads": params.runtime.num_threads,
        "runs": runs,
    }
    write_result(options.out, result, table(result))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
