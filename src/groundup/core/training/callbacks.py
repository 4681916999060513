"""Parts that the Lightning stages share: trainer settings, curves, checkpoints, RNG state."""

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from groundup.core.training.ranks import means, num_ranks
from groundup.core.training.runtime import LIGHTNING_PRECISION, Log, seed_step
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.training import RuntimeParams

STATE = "state.ckpt"
DDP = "ddp"
STRATEGIES: dict[str, Callable[[], Strategy]] = {
    DDP: lambda: DDPStrategy(gradient_as_bucket_view=True),  # else its buckets are a second copy of the gradients
    # Of shards the checkpoint is one whole file too, so that any number of ranks can continue from it.
    "fsdp2": lambda: ModelParallelStrategy(num_ranks(), 1, save_distributed_checkpoint=False),
}


def lightning_settings(runtime: RuntimeParams, device: str, strategy: str = DDP) -> dict[str, Any]:
    """For every L.Trainer: one device a process; checkpoints, curves and progress are our own callbacks."""
    ranks: dict[str, Any] = {}
    if num_ranks() > 1:
        ranks = {
            "num_nodes": num_ranks(),  # a process sees its own device alone
            "strategy": STRATEGIES[strategy](),
            "plugins": TorchElasticEnvironment(),
            "use_distributed_sampler": False,  # loaders give each rank its share
        }
    return {
        "accelerator": device,
        "devices": 1,
        **ranks,
        "precision": LIGHTNING_PRECISION[runtime.precision],
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def is_due(trainer: L.Trainer, every: int) -> bool:
    """Whether the batch ended an optimizer step whose number is a multiple of `every`, or the last step."""
    ended_step = (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return ended_step and (trainer.global_step % every == 0 or trainer.global_step == trainer.max_steps)


class LogCurves(L.Callback):
    """Writes what the module has logged to the stage's log, every `every` optimizer steps."""

    def __init__(self, log: Log, every: int) -> None:
        self.write = log  # not `log`: Lightning replaces that attribute of callbacks
        self.every = every

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *unused: Any) -> None:
        step = trainer.global_step
        if is_due(trainer, self.every):
            self.write(step, **means({name: float(value) for name, value in trainer.callback_metrics.items()}))


class KeepCheckpoints(L.Callback):
    """Saves a checkpoint every `every` optimizer steps, and after the current step if the stage is to end."""

    def __init__(self, checkpoints: Checkpoints, every: int) -> None:
        self.checkpoints = checkpoints
        self.every = every

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.checkpoints.interruption.listen()  # Lightning's own handler would end the run between optimizer steps

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *unused: Any) -> None:
        if is_due(trainer, 1 if self.checkpoints.is_end_requested_after(trainer.global_step) else self.every):
            with self.checkpoints.saving(trainer.global_step) as folder:
                trainer.save_checkpoint(folder / STATE)


class StepSeeds(L.Callback):
    """Seeds what a batch draws by (seed, step, batch)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        seed_step(self.seed, trainer.global_step, batch_idx % trainer.accumulate_grad_batches)
