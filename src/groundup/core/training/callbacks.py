"""Parts that the Lightning stages share: trainer settings, curves, checkpoints, RNG state."""

from typing import Any

import lightning as L
import torch

from groundup.core.training.runtime import LIGHTNING_PRECISION, Log
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.training import RuntimeParams

STATE = "state.ckpt"


def lightning_settings(runtime: RuntimeParams, device: str) -> dict[str, Any]:
    """For every L.Trainer: one device; checkpoints, curves and progress are our own callbacks."""
    return {
        "accelerator": device,
        "devices": 1,
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
            self.write(step, **{name: float(value) for name, value in trainer.callback_metrics.items()})


class KeepCheckpoints(L.Callback):
    """Saves a checkpoint every `every` optimizer steps, and after the current step if the stage is to end."""

    def __init__(self, checkpoints: Checkpoints, every: int) -> None:
        self.checkpoints = checkpoints
        self.every = every

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.checkpoints.interruption.listen()  # Lightning's own handler would end the run between optimizer steps

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *unused: Any) -> None:
        if is_due(trainer, 1 if self.checkpoints.is_end_requested else self.every):
            with self.checkpoints.saving(trainer.global_step) as folder:
                trainer.save_checkpoint(folder / STATE)


class RngState(L.Callback):
    """Saves and restores the RNG state, which Lightning does not; without it a run does not resume exactly.

    It is restored at the first batch and not before, because iter(DataLoader) draws a seed from the global generator.
    """

    def __init__(self) -> None:
        self._restore: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["rng"] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            checkpoint["rng"]["cuda"] = torch.cuda.get_rng_state_all()

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._restore = checkpoint["rng"]

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *unused: Any) -> None:
        if self._restore is not None:
            torch.set_rng_state(self._restore["cpu"])
            if "cuda" in self._restore:
                torch.cuda.set_rng_state_all(self._restore["cuda"])
            self._restore = None
