"""One turn of one side, in one of its processes: python -m bench.devices.train OUT STRATEGY NUM_STEPS."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L

from bench.results import ROOT
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.shards import TokenShards
from groundup.core.model.llama import build_llama
from groundup.core.training.ranks import is_first
from groundup.core.training.runtime import set_up
from groundup.pretrain.data import ShardDataModule
from groundup.pretrain.pretrain import PretrainModule, trainer_settings
from groundup.runner.launch.rank import Ranks
from groundup.runner.params import load_params


class StepTimes(L.Callback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *unused: Any) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    out, strategy, num_steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    ranks = Ranks("cpu")
    params = load_params(ROOT / "params.yaml")
    set_up(params.runtime, "cpu", params.pretrain.seed)
    pretrain = params.pretrain.model_copy(update={"num_steps": num_steps, "warmup_steps": 0})
    model = build_llama(params.model, load_tokenizer(str(ROOT / "artifacts/tokenizer")))
    data = ShardDataModule(TokenShards(ROOT / "artifacts/shards", params.model.context_length), pretrain)
    times = StepTimes()
    trainer = L.Trainer(**trainer_settings(pretrain, params.runtime, "cpu", strategy), callbacks=[times])
    trainer.fit(PretrainModule(model, pretrain, compiled=False), datamodule=data)
    if is_first():
        out.write_text(json.dumps({"ends": times.ends, "tokens_per_step": data.tokens_per_step}))
    ranks.leave()


if __name__ == "__main__":
    main()
