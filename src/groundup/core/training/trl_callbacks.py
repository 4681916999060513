"""What the TRL stages share: settings, curves into the stage's log, checkpoints to resume from, one way to train."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.utils import get_total_norm
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
from groundup.core.training.ranks import num_ranks
from groundup.core.training.runtime import (
    Log,
    NonFiniteLossError,
    draw,
    num_bytes,
    release_freed_memory,
    require_finite_gradients,
    seed_step,
    trl_runtime,
)
from groundup.core.training.shares import share_of_step
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.training import RewardParams, RuntimeParams, SftParams

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


def named(logs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """Of what a trainer logs, what has a name of ours."""
    return {names[name]: float(value) for name, value in logs.items() if name in names}


def require_finite(values: Mapping[str, float], message: str) -> None:
    """`{}` in the message stands for what is not finite."""
    if bad := [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]:
        raise NonFiniteLossError(message.format(", ".join(bad)))


def epoch_settings(
    stage: str,
    params: SftParams | RewardParams,
    checkpoints: Checkpoints,
    runtime: RuntimeParams,
    device: torch.device,
) -> dict[str, Any]:
    """What sft and reward set alike: the rate rises, then falls to zero over all epochs."""
    batch_size, accumulate = share_of_step(stage, params.batch_size, params.accumulate, num_ranks())
    return {
        "output_dir": str(checkpoints.folder),
        "seed": params.seed,
        "num_train_epochs": params.num_epochs,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": accumulate,
        "max_length": params.max_length,
        "learning_rate": params.learning_rate,
        "weight_decay": params.weight_decay,
        "warmup_steps": params.warmup_fraction,
        "lr_scheduler_type": "linear",
        "max_grad_norm": params.max_gradient_norm,
        "logging_steps": params.log_every,
        "save_steps": params.checkpoint_every,
        **trl_runtime(runtime, device),
    }


def rows_per_step(args: TrainingArguments) -> int:
    """Of all ranks together."""
    return args.per_device_train_batch_size * args.gradient_accumulation_steps * num_ranks()


def keep_whole_steps(trainer: Trainer, stage: str) -> None:
    """Leave out the rows for which an epoch would have a shorter last step: ranks could not share them evenly.

    Where there are fewer than one step takes, all stay; ValueError if the ranks cannot share those.
    """
    num_rows, size = len(trainer.train_dataset), rows_per_step(trainer.args)
    if num_rows < size and num_rows % num_ranks():
        raise ValueError(
            f"{stage}: {num_rows} rows, fewer than the {size} of a step, cannot be divided among {num_ranks()} "
            f"processes: start one, lower {stage}.batch_size or add data"
        )
    if num_rows > size:
        chosen = draw(list(range(num_rows)), num_rows // size * size, trainer.args.seed)
        trainer.train_dataset = trainer.train_dataset.select(chosen)


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
        self._loss: float | None = None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any) -> None:
        if values := named(objects["logs"], NAMES):
            self._write(state.global_step, values)
            self._loss = values.get("loss", self._loss)

    def _write(self, step: int, values: dict[str, float]) -> None:
        require_finite(
            values,
            f"{self.stage}: {{}} at step {step}, or up to {self.stage}.log_every steps before it; "
            f"lower {self.stage}.learning_rate, or look for non-finite weights in the model it started from",
        )
        self.log(step, **values)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        if self._progress is None:
            self._progress = ProgressReport(self.stage, state.max_steps, "examples")
        self._progress.update(state.global_step, rows_per_step(args), self._loss)
        if state.global_step % self.validate_every == 0 or state.global_step == state.max_steps:
            model = objects["model"]
            model.eval()
            values = self.validate(model)
            model.train()
            self._write(state.global_step, values)
            described = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
            logger.info("%s %d/%d  %s", self.stage, state.global_step, state.max_steps, described)


class StepSeeds(TrainerCallback):
    """Seeds what a step draws, such as dropout, by (seed, step)."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
    ) -> None:
        seed_step(args.seed, state.global_step)


class FiniteGradients(TrainerCallback):
    """Stops before a step whose gradients are not finite: clipped by such a norm they would make the weights NaN."""

    def __init__(self, rate: str) -> None:
        self.rate = rate

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        gradients = [weight.grad for weight in objects["model"].parameters() if weight.grad is not None]
        stage, when = self.rate.partition(".")[0], f"step {state.global_step + 1}"
        require_finite_gradients(get_total_norm(gradients).item(), stage, when, self.rate)


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
        if self.checkpoints.is_end_requested_after(state.global_step) and control.should_log:
            control.should_save = True
        self._start = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any) -> None:
        self.checkpoints.seal(state.global_step, self._start)


def fit(
    trainer: Trainer, callback: TrainerCallback, checkpoints: Checkpoints, num_copies: int, learning_rate: str
) -> float:
    """Train as `run_trainer` does where there is room for the checkpoints; the seconds it took.

    A checkpoint has `num_copies` of the trained weights: 3 with AdamW's two moments. `learning_rate`: its param.
    """
    trainer.remove_callback(PrinterCallback)  # `callback` speaks for it
    trainer.add_callback(StepSeeds())
    trainer.add_callback(FiniteGradients(learning_rate))
    trainer.add_callback(callback)
    trainer.add_callback(KeepCheckpoints(checkpoints))
    trained = num_bytes(weight for weight in trainer.model.parameters() if weight.requires_grad)
    checkpoints.require_space(num_copies * trained, num_bytes(trainer.model.parameters()))
    start = time.monotonic()
    run_trainer(trainer, checkpoints)
    release_freed_memory()
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
