"""Training stages one after the other, in one of the processes that torchrun starts: python -m tests.ranks FOLDER.

FOLDER/options.json says what to do. Each process writes down what it saw: Noted.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from transformers import Trainer

from groundup.align.methods.ppo.module import Ppo
from groundup.align.rollout import RolledOut, RolloutWorker
from groundup.align.tokens import Conversations
from groundup.core.model.generation import Replies, Sampler
from groundup.pretrain import optimizer
from groundup.pretrain.data import RowLoader
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.figures import numbers
from groundup.runner.files import digest_path
from groundup.runner.interruption import Interruption
from groundup.runner.launch.rank import Ranks
from tests.align.conftest import AlignRun
from tests.evaluate.judging import PARAMS as EVALUATE
from tests.evaluate.stage import run_evaluate
from tests.pretrain import test_pretrain
from tests.reward import test_reward
from tests.sft import test_sft

LAST_EXIT = 9


class Noted:
    """What one process saw of one stage. It stands for the stage's log too, and ends the process where it has to."""

    def __init__(self, ranks: Ranks, dies_at: int | None) -> None:
        self.ranks = ranks
        self.dies_at = dies_at
        self.curve: dict[int, dict[str, float]] = {}
        self.rows: list[Any] = []  # of training data, in the order in which this process read them
        self.tokens: list[list[list[int]]] = []  # of the replies that it sampled, by rollout
        self.num_replies = 0  # all that it sampled
        self.num_orthogonalized = 0  # matrices, by Muon
        self.moved: list[float] = []  # by step: the share of the weights that it changed
        self.weights = ""  # digest of the trained weights after the last step
        self.engine = ""  # what brings the processes together
        self._before: list[Tensor] = []

    def __call__(self, step: int, **values: float) -> None:
        if step == self.dies_at and torch.distributed.get_rank() == torch.distributed.get_world_size() - 1:
            os._exit(LAST_EXIT)
        self.curve.setdefault(step, {}).update(values)

    def checkpoints(self, folder: Path) -> Checkpoints:
        return Checkpoints(folder / "work", Interruption(), processes=self.ranks)

    def before_step(self, optimizer: torch.optim.Optimizer, *unused: Any) -> None:
        self._before = [weight.detach().clone() for weight in _weights(optimizer)]

    def after_step(self, optimizer: torch.optim.Optimizer, *unused: Any) -> None:
        after = _weights(optimizer)
        self.moved.append(sum(not a.equal(b) for a, b in zip(self._before, after, strict=True)) / len(after))
        digest = hashlib.sha256(b"".join(weight.detach().numpy().tobytes() for weight in after))
        self.weights = digest.hexdigest()

    def as_dict(self) -> dict[str, Any]:
        names = ("curve", "rows", "tokens", "num_replies", "num_orthogonalized", "moved", "weights", "engine")
        return {name: getattr(self, name) for name in names}


def _weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What this process holds of them."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    own = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights]
    return [weight for weight in own if weight.numel()]


def watch(noted: Noted, *, backwards: bool) -> None:
    """Note what training does. backwards: add up the rows of a pass the other way round."""
    order = -1 if backwards else 1
    read, fit, loader, train = RowLoader.batch, L.Trainer.fit, Trainer.get_train_dataloader, Trainer.training_step
    roll_out, sampled = RolloutWorker.roll_out, RolloutWorker._rows
    accumulate, batches = Ppo.accumulate_gradients, Conversations.batches
    sample, orthogonalize = Sampler.sample, optimizer.orthogonalize

    def read_rows(own: RowLoader, rows: Sequence[int]) -> dict[str, Tensor]:
        noted.rows += rows
        return read(own, rows[::order])

    def fit_noted(own: L.Trainer, *arguments: Any, **named: Any) -> None:
        noted.engine = type(own.strategy).__name__
        fit(own, *arguments, **named)

    def collated(own: Trainer) -> Any:
        collate = own.data_collator

        def note(examples: list[dict[str, Any]]) -> dict[str, Any]:
            noted.rows += [
                hashlib.sha256(json.dumps(example, sort_keys=True).encode()).hexdigest() for example in examples
            ]
            found: dict[str, Any] = collate(examples[::order])
            return found

        own.data_collator = note
        return loader(own)

    def trained(own: Trainer, model: Any, *arguments: Any, **named: Any) -> Tensor:
        noted.engine = type(model).__name__
        return train(own, model, *arguments, **named)

    def rolled_out(own: RolloutWorker, *arguments: Any) -> Any:
        noted.tokens.append([])
        return roll_out(own, *arguments)

    def sampled_rows(own: RolloutWorker, prompts: Any, seed: int, places: Sequence[int]) -> list[RolledOut]:
        found = sampled(own, prompts, seed, places)
        noted.tokens[-1] = [row.tokens for row in found]
        return found

    def accumulated(own: Ppo, experience: Any, rows: list[int], *arguments: Any) -> dict[str, float]:
        noted.rows += rows
        return accumulate(own, experience, rows, *arguments)

    def sample_noted(own: Sampler, model: Any, prompts: Any, seed: int, places: Any = None) -> Replies:
        noted.num_replies += len(prompts if places is None else places)
        return sample(own, model, prompts, seed, places)

    def orthogonalize_noted(matrices: Tensor) -> Tensor:
        noted.num_orthogonalized += len(matrices)
        return orthogonalize(matrices)

    def ordered(own: Conversations, rows: Any, batch_size: int, device: torch.device) -> Any:
        for chosen, _ in batches(own, rows, batch_size, device):
            yield chosen[::order], own._collate(chosen[::order], device)

    replace: list[tuple[Any, str, Callable[..., Any]]] = [
        (RowLoader, "batch", read_rows),
        (L.Trainer, "fit", fit_noted),
        (Trainer, "get_train_dataloader", collated),
        (Trainer, "training_step", trained),
        (RolloutWorker, "roll_out", rolled_out),
        (RolloutWorker, "_rows", sampled_rows),
        (Ppo, "accumulate_gradients", accumulated),
        (Conversations, "batches", ordered),
        (Sampler, "sample", sample_noted),
        (optimizer, "orthogonalize", orthogonalize_noted),
    ]
    for owner, name, function in replace:
        setattr(owner, name, function)


FOUR = {"batch_size": 4}
PRETRAIN = test_pretrain.PRETRAIN.model_copy(update=FOUR | {"num_steps": 10})
PARAMS: dict[str, Any] = {
    "pretrain": PRETRAIN,
    "pretrain-fsdp2": PRETRAIN,
    "sft": test_sft.SFT.model_copy(update={"batch_size": 2, "accumulate": 2, "max_length": 40}),
    "reward": test_reward.REWARD.model_copy(update=FOUR | {"accumulate": 2, "num_epochs": 2.0, "checkpoint_every": 3}),
}
RUNS: dict[str, Callable[..., Any]] = {
    "pretrain": test_pretrain.run,
    "pretrain-fsdp2": partial(test_pretrain.run, strategy="fsdp2"),
    "sft": test_sft.run,
    "reward": test_reward.run,
}


def run(stage: str, inputs: dict[str, str], folder: Path, noted: Noted) -> None:
    if stage == "evaluate":
        judge = {"path": "models/own", "digest": digest_path(folder / "base")}
        params = EVALUATE.model_copy(
            update={"judge": "model", "model_judge": EVALUATE.model_judge.model_copy(update=judge)}
        )
        points = folder / "align/evaluation_points.jsonl"
        found = run_evaluate(folder, params, noted, points=points, out="out", processes=noted.ranks)
        noted(3, **numbers(found))
    elif stage.startswith("align"):
        method = stage.partition("-")[2] or "ppo"
        AlignRun(folder, processes=noted.ranks)(".", noted, method=method)
    else:
        paths = {name: Path(path) for name, path in inputs.items()}
        RUNS[stage](paths, folder, noted, PARAMS[stage])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    options = json.loads((folder / "options.json").read_text())
    ranks = Ranks("cpu")
    noted = Noted(ranks, options["dies_at"])
    watch(noted, backwards=options["backwards"])
    handles = [
        register_optimizer_step_pre_hook(noted.before_step),
        register_optimizer_step_post_hook(noted.after_step),
    ]
    run(options["stage"], options["inputs"], folder, noted)
    (folder / f"noted-{torch.distributed.get_rank()}.json").write_text(json.dumps(noted.as_dict()))
    ranks.leave()
