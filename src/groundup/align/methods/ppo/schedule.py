"""The work between PPO iterations: curves, validation, rollback, checkpoints."""

import logging
import time
from typing import Any

import lightning as L
import torch

from groundup.align.alarms import KL, OVEROPTIMIZATION
from groundup.align.context import Context
from groundup.align.methods.ppo.module import Ppo
from groundup.core.training.ranks import is_first

logger = logging.getLogger(__name__)

STATE = "state.pt"


class Schedule(L.Callback):
    """The state of this callback and of the module form one checkpoint."""

    def __init__(self, context: Context) -> None:
        self.validation = context.validation
        self.params = context.params
        self.checkpoints = context.checkpoints
        self.record = context.log  # not `log`, which Lightning uses
        self.num_alarmed = 0  # consecutive validations with an over-optimization alarm
        self.explained_variances: list[float] = []
        self.started = 0.0  # start of the current iteration, time.perf_counter

    def start(self, ppo: Ppo) -> None:
        """Resume from the newest checkpoint, or start with the SFT model as the first candidate."""
        newest = self.checkpoints.newest()
        if newest is None:
            self.validation.validate(0, ppo.learned_state)
            ppo.length_control.target = self.validation.reference_length
            # Saved again, since the length controller has its target only now.
            self.validation.best.learned = ppo.learned_state()
            self.validation.sample(0)
            return
        state = torch.load(newest / STATE, map_location="cpu", weights_only=True)
        ppo.load_full_state(state["ppo"])
        self.validation.load_state(state["validation"])
        self.num_alarmed = state["num_alarmed"]
        self.explained_variances = state["explained_variances"]

    def on_train_start(self, trainer: L.Trainer, ppo: Ppo) -> None:
        self.checkpoints.interruption.listen()  # Lightning has replaced the handlers

    def on_train_batch_start(self, trainer: L.Trainer, ppo: Ppo, batch: list[list[int]], batch_index: int) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, ppo: Ppo, outputs: Any, batch: list[list[int]], batch_index: int
    ) -> None:
        validation = self.validation
        validation.train_seconds += time.perf_counter() - self.started
        validation.num_samples += len(batch)
        iteration, params = ppo.iteration, self.params
        num_reply_tokens = round(ppo.metrics["reply_length"] * len(batch))
        num_tokens = sum(map(len, batch)) + num_reply_tokens
        num_models = 2 if params.ppo.value_trunk == "separate" else 1
        # Tokens read: to sample, to score, there and elsewhere, by the reference, and by a separate value model.
        elsewhere = ppo.worker.tokens_elsewhere(batch, num_reply_tokens)
        validation.num_read_tokens += (2 + num_models) * num_tokens + elsewhere
        self.record(iteration, **ppo.metrics)
        if ppo.stopped_early:  # before the update, so there is no new policy to validate
            logger.warning("align: stopped early: %s", ppo.stopped_early)
            validation.alarms.fire(KL, iteration, ppo.stopped_early)
            self.record(iteration, alarm_kl=1.0)
            self._save(ppo)  # training is over; a resumed run must not repeat it
            return
        validation.num_learned_tokens += params.num_epochs * num_models * num_tokens
        self.explained_variances.append(ppo.metrics["explained_variance"])
        is_last = iteration == params.num_iterations
        is_validated = iteration % params.validation.every == 0 or is_last
        if is_validated:
            validation.validate(iteration, ppo.learned_state)
        if iteration % params.validation.sample_every == 0 or is_last:
            validation.sample(iteration)
        if is_validated and not is_last:  # after the samples, which show the policy before the rollback
            self._roll_back_if_alarmed(ppo)
        is_end = self.checkpoints.is_end_requested_after(iteration) or is_last or ppo.stopped_early
        if is_end or iteration % params.checkpoint_every == 0:
            self._save(ppo)

    def _roll_back_if_alarmed(self, ppo: Ppo) -> None:
        """Roll back to the best policy with a higher KL coefficient; stop training after the last allowed rollback."""
        params, alarms, best = self.params.ppo, self.validation.alarms, self.validation.best
        self.num_alarmed = self.num_alarmed + 1 if OVEROPTIMIZATION in alarms.standing else 0
        if self.num_alarmed < params.rollback_after:
            return
        if len(alarms.rollbacks) == params.max_rollbacks:
            ppo.stop(f"over-optimization in iteration {ppo.iteration} after {params.max_rollbacks} rollbacks")
            logger.warning("align: stopped early: %s", ppo.stopped_early)
            return
        ppo.roll_back(best.learned, params.rollback_kl_factor)
        self.num_alarmed = 0
        alarms.roll_back(ppo.iteration, best.iteration, ppo.controller.coefficient)

    def _save(self, ppo: Ppo) -> None:
        state = {
            "ppo": ppo.full_state(),
            "validation": self.validation.state(),
            "num_alarmed": self.num_alarmed,
            "explained_variances": self.explained_variances,
        }
        with self.checkpoints.saving(ppo.iteration) as folder:
            if is_first():
                torch.save(state, folder / STATE)
