"""What the TRL stages share: curves into the stage's log, checkpoints to go on from."""

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from groundup.train.progress import ProgressReport
from groundup.train.runtime import Log

logger = logging.getLogger(__name__)

# Names of transformers and TRL -> ours (docs/metrics.md). What is not named is not logged.
NAMES = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "mean_token_accuracy": "token_accuracy",
    "accuracy": "accuracy",
    "margin": "margin",
}


class Curves(TrainerCallback):
    """Feeds the trainer's log, and every `validate_every` steps `validate()`, to the stage's log."""

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
        values = {NAMES[name]: float(value) for name, value in (logs or {}).items() if name in NAMES}
        if not values:
            return
        self._check_finite(state.global_step, values)
        self.log(state.global_step, **values)
        self._loss = values.get("loss", self._loss)

    def _check_finite(self, step: int, values: dict[str, float]) -> None:
        bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(
                f"{self.stage}: {', '.join(bad)} at step {step}, or up to {self.stage}.log_every steps before it; "
                f"lower {self.stage}.learning_rate, or look for non-finite weights in the model it started from"
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


def newest_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of a transformers Trainer; torn ones are deleted.

    Trainer writes trainer_state.json last, straight into the folder, and does not look for it before it resumes.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in reversed(found):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            logger.warning("removing %s: it was not written to its end", path.name)
            shutil.rmtree(path)
        else:
            logger.info("going on from %s", path.name)
            return str(path)
    return None
