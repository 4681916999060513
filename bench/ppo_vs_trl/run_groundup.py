"""Our side: the module of the align stage under Lightning's Trainer, as in the stage."""

import logging
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from transformers import LlamaForCausalLM
from turns import Turns, read_settings

from groundup.align.methods.ppo.module import Ppo
from groundup.align.policy import Policy, SharedTrunkValue, ValueModel
from groundup.align.rollout import RolloutWorker
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import Builtin
from groundup.core.rollout.prompts import Prompt, PromptBatches
from groundup.runner.params.align import AlignParams


class TakeTurns(L.Callback):
    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_start(self, trainer: L.Trainer, ppo: Ppo) -> None:
        self.turns.begin()

    def on_train_batch_end(self, trainer: L.Trainer, ppo: Ppo, outputs: Any, batch: Any, batch_index: int) -> None:
        self.turns.end_iteration(ppo.policy.model.save_pretrained)


def main() -> None:
    settings, out, value_trunk = read_settings(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(settings["num_threads"])
    torch.manual_seed(settings["seed"])
    params = AlignParams.model_validate(
        settings["align"] | {"ppo": settings["align"]["ppo"] | {"value_trunk": value_trunk}}
    )
    model = LlamaForCausalLM.from_pretrained(settings["sft"], dtype=torch.float32)
    value_model = ValueModel(model) if value_trunk == "separate" else SharedTrunkValue(model.config.hidden_size)
    scorer = RewardScorer.load(Path(settings["reward"]), torch.device("cpu"))
    worker = RolloutWorker(Policy(model, None), scorer, load_tokenizer(settings["sft"]), params, Builtin())
    prompts = [Prompt("", [], ids) for ids in settings["prompts"]]
    iterations = range(1, settings["num_iterations"] + 1)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        callbacks=[TakeTurns(Turns(settings, out))],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        Ppo(worker, value_model, params), PromptBatches(prompts, settings["batch_size"], params.seed, iterations)
    )


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
