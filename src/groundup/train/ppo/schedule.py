"""What happens between iterations: curves, validation, keeping the best policy, samples, checkpoints."""

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch

from groundup.frame.checkpoints import Checkpoints
from groundup.frame.params.align import AlignParams
from groundup.train.ppo.models import Weights
from groundup.train.ppo.module import Ppo
from groundup.train.ppo.samples import SampleTable
from groundup.train.runtime import Log

logger = logging.getLogger(__name__)

STATE = "state.pt"


@dataclass
class Kept:
    """The policy of the highest validation reward among those within the budgets of KL and of reply length."""

    iteration: int = 0
    reward: float = -math.inf
    weights: Weights = field(default_factory=dict)


class Schedule(L.Callback):
    """Follows a run. Its state, with that of the module, is one checkpoint."""

    def __init__(
        self,
        validation_prompts: list[list[int]],
        validation_seed: int,
        samples: SampleTable,
        params: AlignParams,
        checkpoints: Checkpoints,
        log: Log,
    ) -> None:
        self.validation_prompts = validation_prompts
        self.validation_seed = validation_seed
        self.samples = samples
        self.params = params
        self.checkpoints = checkpoints
        self.record = log  # not `log`: Lightning puts its own there
        self.kept = Kept()
        self.explained_variances: list[float] = []
        self.num_samples = 0
        self.train_seconds = 0.0  # of this process, validation left out
        self.started = 0.0  # the present iteration, time.perf_counter

    def start(self, ppo: Ppo) -> None:
        """Continue from the newest checkpoint, or start with the SFT model as the first candidate."""
        newest = self.checkpoints.newest()
        if newest is None:
            summary = self._validate(ppo)
            ppo.length_control.target = summary["reply_length"]
            self._keep_if_best(ppo, summary)
            self._sample(ppo)
            return
        state = torch.load(newest / STATE, map_location="cpu", weights_only=True)
        ppo.load_full_state(state["ppo"])
        self.kept = Kept(**state["kept"])
        self.explained_variances = state["explained_variances"]
        self.samples.rows = state["samples"]

    def on_train_start(self, trainer: L.Trainer, ppo: Ppo) -> None:
        self.checkpoints.interruption.listen()  # Lightning has put its own handler in front

    def on_train_batch_start(self, trainer: L.Trainer, ppo: Ppo, batch: list[list[int]], batch_index: int) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, ppo: Ppo, outputs: Any, batch: list[list[int]], batch_index: int
    ) -> None:
        self.train_seconds += time.perf_counter() - self.started
        self.num_samples += len(batch)
        iteration, params = ppo.iteration, self.params
        self.record(iteration, **ppo.metrics)
        if ppo.stopped_early:  # before the update: there is no new policy to look at
            logger.warning("align: stopped early: %s", ppo.stopped_early)
            self._save(ppo)  # training is over, and a run that is ended here must not do it again
            return
        self.explained_variances.append(ppo.metrics["explained_variance"])
        is_last = iteration == params.num_iterations
        if iteration % params.validate_every == 0 or is_last:
            self._keep_if_best(ppo, self._validate(ppo))
        if iteration % params.sample_every == 0 or is_last:
            self._sample(ppo)
        if iteration % params.checkpoint_every == 0 or is_last or self.checkpoints.is_end_requested:
            self._save(ppo)

    def _validate(self, ppo: Ppo) -> dict[str, float]:
        """Same prompts and random numbers every time, so that what differs is the policy."""
        rollout = ppo.worker.roll_out(ppo.policy.model, self.validation_prompts, self.validation_seed)
        summary = rollout.summary()
        self.record(ppo.iteration, **{f"val_{name}": value for name, value in summary.items()})
        logger.info(
            "align: iteration %d/%d: validation reward %.3f, KL %.2f nats a reply, length %.1f, end of turn %.2f",
            ppo.iteration,
            self.params.num_iterations,
            summary["reward"],
            summary["kl"],
            summary["reply_length"],
            summary["end_of_turn_rate"],
        )
        return summary

    def _keep_if_best(self, ppo: Ppo, summary: dict[str, float]) -> None:
        length_change = abs(summary["reply_length"] / ppo.length_control.target - 1)
        is_allowed = summary["kl"] <= self.params.kl_budget and length_change <= self.params.length_budget
        if is_allowed and summary["reward"] > self.kept.reward:
            self.kept = Kept(ppo.iteration, summary["reward"], ppo.policy.weights())

    def _sample(self, ppo: Ppo) -> None:
        rollout = ppo.worker.roll_out(ppo.policy.model, self.samples.prompt_ids, self.validation_seed)
        self.samples.add(ppo.iteration, rollout)

    def _save(self, ppo: Ppo) -> None:
        """Tensors, numbers, strings, lists and dicts only: loading runs no code."""
        state = {
            "ppo": ppo.full_state(),
            "kept": vars(self.kept),
            "explained_variances": self.explained_variances,
            "samples": self.samples.rows,
        }
        with self.checkpoints.saving(ppo.iteration) as folder:
            torch.save(state, folder / STATE)
