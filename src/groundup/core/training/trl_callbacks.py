"""Parts that the TRL stages share: curves in the stage's log, checkpoints, and the training call."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME

from groundup.core.training.progress import ProgressReport
from groundup.core.training.runtime import Log, NonFiniteLossError, num_bytes
from groundup.runner.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

# Names of transformers and TRL -> ours (docs/metrics.md). Others are not logged.
NAMES = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "mean_token_accuracy": "token_accuracy",
    "accuracy": "accuracy",
    "margin": "margin",
    "latent_std": "latent_std",
    "latent_kl": "latent_kl",
}


def named(logs: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, float]:
    """The values that a trainer logs under a name in `names`, by our name."""
    return {names[name]: float(value) for name, value in (logs or {}).items() if name in names}


class Curves(TrainerCallback):
    """Writes the trainer's log, and `validate()` every `validate_every` steps, to the stage's log."""

    def __init__(
        self, stage: str, log: Log, validate_every: int, validate: Callable[[PreTrainedModel], dict[str, float]]
    ) -> None:
        self.stage = stage
        self.log = log
        self.validate_every = validate_every
        self.validate = validate
        self._progress: ProgressReport | None = None
        self._loss = math.nan

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **unused: Any,
    ) -> None:
        values = named(logs, NAMES)
        if not values:
            return
        self._check_finite(state.global_step, values)
        self.log(state.global_step, **values)
        self._loss = values.get("loss", self._loss)

    def _check_finite(self, step: int, values: dict[str, float]) -> None:
        bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteLossError(
                f"{self.stage}: {', '.join(bad)} at step {step}, or up to {self.stage}.log_every steps before it; "
                f"lower {self.stage}.learning_rate, or look for non-finite weights in the model before training"
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        if self._progress is None:
            self._progress = ProgressReport(self.stage, state.max_steps, "examples")
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
        self._progress.update(state.global_step, batch, self._loss)
        if state.global_step % self.validate_every == 0 or state.global_step == state.max_steps:
            model = objects["model"]
            model.eval()
            values = self.validate(model)
            model.train()
            self._check_finite(state.global_step, values)
            self.log(state.global_step, **values)
            described = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
            logger.info("%s %d/%d  %s", self.stage, state.global_step, state.max_steps, described)


class KeepCheckpoints(TrainerCallback):
    """Seals what the trainer saves. Added after Curves, so that the curve up to a checkpoint has been logged.

    Losses and accuracies are means since the previous row, and a checkpoint does not hold their sums. So a run
    resumes exactly only from a logged step: the last step is logged, and a stage that is to end waits for such a step.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self._start = 0.0  # start of the saving that may follow the step, time.monotonic

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
    ) -> None:
        if state.global_step == state.max_steps:
            control.should_log = True
        if self.checkpoints.is_end_requested and control.should_log:
            control.should_save = True
        self._start = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any) -> None:
        self.checkpoints.seal(state.global_step, self._start)


def fit(trainer: Trainer, callback: TrainerCallback, checkpoints: Checkpoints, num_copies: int) -> float:
    """Check the disk space for checkpoints, then train; returns the seconds of training.

    A checkpoint has `num_copies` of the trained weights: 3 with AdamW's two moments.
    """
    trainer.remove_callback(PrinterCallback)  # `callback` reports instead
    trainer.add_callback(callback)
    trainer.add_callback(KeepCheckpoints(checkpoints))
    trained = num_bytes(weight for weight in trainer.model.parameters() if weight.requires_grad)
    checkpoints.require_space(num_copies * trained, num_bytes(trainer.model.parameters()))
    start = time.monotonic()
    run_trainer(trainer, checkpoints)
    return time.monotonic() - start


def run_trainer(trainer: Trainer, checkpoints: Checkpoints) -> None:
    """Train to the end, from the newest checkpoint if there is one."""
    newest = checkpoints.newest()
    state = TrainerState.load_from_json(str(newest / TRAINER_STATE_NAME)) if newest else None
    with checkpoints.training():
        if state and state.global_step == state.max_steps:  # train() would take another step if an epoch is incomplete
            trainer._load_from_checkpoint(str(newest))
            trainer.state = state
        else:
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
