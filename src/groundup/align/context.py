"""What the stage passes to the training method."""

from dataclasses import dataclass

import torch

from groundup.align.rollout import RolloutWorker
from groundup.align.validation import Validation
from groundup.core.rollout.prompts import Prompt
from groundup.core.training.runtime import Log
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.align import AlignParams
from groundup.runner.params.training import RuntimeParams

Metrics = dict[str, float | int | str]


@dataclass(frozen=True)
class Context:
    """A method trains `worker.policy`, from the newest checkpoint if there is one, and returns its own figures."""

    worker: RolloutWorker
    validation: Validation
    prompts: list[Prompt]  # of the training split
    params: AlignParams
    runtime: RuntimeParams
    device: torch.device
    checkpoints: Checkpoints
    log: Log
