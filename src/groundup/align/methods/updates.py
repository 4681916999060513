"""The work between updates of a TRL trainer: iterations counted as in PPO, curves, validation, checkpoints."""

import logging
import time
from typing import Any

import torch
from peft import PeftModel
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from groundup.align.alarms import KL
from groundup.align.context import Context, Metrics
from groundup.align.controllers import LengthControl
from groundup.align.policy import POLICY
from groundup.core.training.ranks import is_first, num_ranks
from groundup.core.training.runtime import trl_runtime
from groundup.core.training.shares import share_of
from groundup.core.training.trl_callbacks import fit, named, require_finite
from groundup.runner.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

STATE = "validation.pt"

# Names of transformers and TRL -> ours (docs/metrics.md). Others are not logged.
NAMES = {
    "loss": "policy_loss",
    "grad_norm": "gradient_norm",
    "entropy": "entropy",
    "rewards/accuracies": "pair_accuracy",
}


class Updates(TrainerCallback):
    """Validates and saves a run of any TRL method. An iteration is 1 / `num_iterations` of all updates.

    Checkpoints and curve rows occur only at its end: TRL's sample buffer and running sums are in no checkpoint.
    """

    def __init__(self, context: Context, length_control: LengthControl | None = None) -> None:
        self.validation = context.validation
        self.policy = context.worker.policy
        self.params = context.params
        self.checkpoints = context.checkpoints
        self.log = context.log
        self.length_control = length_control
        self.sampled: dict[str, float] = {}  # figures of the last sampled replies
        self.stopped_early = ""  # the reason
        self._started = 0.0  # start of the current update, time.perf_counter

    def start(self) -> None:
        """Resume from the newest checkpoint, or start with the SFT model as the first candidate."""
        newest = self.checkpoints.newest()
        if newest is None:
            self._validate(0)
            if self.length_control:
                self.length_control.target = self.validation.reference_length
            self.validation.sample(0)
            return
        state = torch.load(newest / STATE, map_location="cpu", weights_only=True)
        self.validation.load_state(state["validation"])
        if self.length_control:
            self.length_control.load_state(state["length_control"])
        self.stopped_early = state["stopped_early"]

    def iteration(self, update: int, state: TrainerState) -> int:
        return update * self.params.num_iterations // state.max_steps

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
    ) -> None:
        self._started = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
    ) -> None:
        validation, params = self.validation, self.params
        validation.train_seconds += time.perf_counter() - self._started
        before, now = (self.iteration(state.global_step - back, state) for back in (1, 0))
        control.should_log = now > before
        control.should_save = False
        if now == before:
            return
        is_last = now == params.num_iterations

        def is_due(every: int) -> bool:
            return is_last or now // every > before // every

        if is_due(params.validation.every):
            self._validate(now)
            if KL in validation.alarms.standing and not is_last:
                self.stopped_early = f"KL above kl_stop {params.alarms.kl_stop} at the validation of iteration {now}"
                logger.warning("align: stopped early: %s", self.stopped_early)
                control.should_training_stop = True
        if is_due(params.validation.sample_every):
            validation.sample(now)
        control.should_save = is_due(params.checkpoint_every) or bool(self.stopped_early)

    def _validate(self, iteration: int) -> None:
        trained = self.policy.trained
        is_training = self.policy.model.training  # not yet before the first update
        trained.eval()
        self.validation.validate(iteration, lambda: {"policy": self.policy.weights()})
        trained.train(is_training)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any) -> None:
        if not (values := named(objects["logs"], NAMES)):
            return
        iteration = self.iteration(state.global_step, state)
        require_finite(
            values,
            f"align: {{}} in iteration {iteration}; lower align.{self.params.method}.learning_rate, or look for "
            "non-finite weights in the SFT or reward model",
        )
        self.log(iteration, **self.sampled, **values)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any) -> None:
        """Runs before KeepCheckpoints seals the folder. Only tensors and plain values, so loading runs no code."""
        state_dict = {
            "validation": self.validation.state(),
            "length_control": self.length_control.state() if self.length_control else None,
            "stopped_early": self.stopped_early,
        }
        if is_first():
            torch.save(state_dict, self.checkpoints.folder / f"checkpoint-{state.global_step}" / STATE)


class PolicyCheckpoints:
    """Of TRL's trainers: a checkpoint holds the policy alone, not the frozen adapters that share its base."""

    model: Any

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        chosen = {"selected_adapters": [POLICY]} if isinstance(self.model, PeftModel) else {}
        self.model.save_pretrained(output_dir, state_dict=state_dict, **chosen)


def common_settings(context: Context, learning_rate: float) -> dict[str, Any]:
    """Training arguments that all methods have in common."""
    params = context.params
    return {
        "output_dir": str(context.checkpoints.folder),
        "seed": params.seed,
        "per_device_train_batch_size": share_of(params.minibatch_size, "align.minibatch_size", num_ranks()),
        "learning_rate": learning_rate,
        "lr_scheduler_type": "linear",  # to zero, as in PPO
        # a share of all updates, or 0 for none
        "warmup_steps": params.warmup_iterations / params.num_iterations,
        "max_grad_norm": params.max_gradient_norm,
        **trl_runtime(context.runtime, context.device),
    }


def train(trainer: Trainer, updates: Updates, checkpoints: Checkpoints) -> Metrics:
    """Train to the end; does nothing if a resumed run had finished or stopped."""
    if not updates.stopped_early:
        # Copies: with two moments, and the best policy so far.
        fit(trainer, updates, checkpoints, num_copies=4, learning_rate=f"align.{updates.params.method}.learning_rate")
    return {"stopped_early": updates.stopped_early or "no"}
