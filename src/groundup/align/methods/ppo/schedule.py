"""What happens between the iterations of PPO: curves, validation, rollback, checkpoints."""

import logging
import time
from typing import Any

import lightning as L
import torch

from groundup.align.alarms import KL, OVEROPTIMIZATION
from groundup.align.methods.ppo.module import Ppo
from groundup.align.validation import Following
from groundup.core.training.runtime import Log
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.align import AlignParams

logger = logging.getLogger(__name__)

STATE = "state.pt"


class Schedule(L.Callback):
    """Follows a run. Its state, with that of the module, is one checkpoint."""

    def __init__(self, following: Following, params: AlignParams, checkpoints: Checkpoints, log: Log) -> None:
        self.following = following
        self.params = params
        self.checkpoints = checkpoints
        self.record = log  # not `log`: Lightning puts its own there
        self.num_alarmed = 0  # validations in a row at which the alarm of over-optimisation stood
        self.explained_variances: list[float] = []
        self.started = 0.0  # the present iteration, time.perf_counter

    def start(self, ppo: Ppo) -> None:
        """Continue from the newest checkpoint, or start with the SFT model as the first candidate."""
        newest = self.checkpoints.newest()
        if newest is None:
            self.following.validate(0, ppo.learned_state)
            ppo.length_control.target = self.following.reference_length
            # Kept as it starts: with the target that the controller has only now.
            self.following.kept.learned = ppo.learned_state()
            self.following.sample(0)
            return
        state = torch.load(newest / STATE, map_location="cpu", weights_only=True)
        ppo.load_full_state(state["ppo"])
        self.following.load_state(state["following"])
        self.num_alarmed = state["num_alarmed"]
        self.explained_variances = state["explained_variances"]

    def on_train_start(self, trainer: L.Trainer, ppo: Ppo) -> None:
        self.checkpoints.interruption.listen()  # Lightning has put its own handler in front

    def on_train_batch_start(self, trainer: L.Trainer, ppo: Ppo, batch: list[list[int]], batch_index: int) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, ppo: Ppo, outputs: Any, batch: list[list[int]], batch_index: int
    ) -> None:
        following = self.following
        following.train_seconds += time.perf_counter() - self.started
        following.num_samples += len(batch)
        iteration, params = ppo.iteration, self.params
        num_tokens = sum(map(len, batch)) + round(ppo.metrics["reply_length"] * len(batch))
        num_models = 2 if params.value_trunk == "separate" else 1
        # Read: to sample, to score, by the reference, and for values where they take a model of their own.
        following.num_read_tokens += (2 + num_models) * num_tokens
        self.record(iteration, **ppo.metrics)
        if ppo.stopped_early:  # before the update: there is no new policy to look at
            logger.warning("align: stopped early: %s", ppo.stopped_early)
            following.watch.fire(KL, iteration, ppo.stopped_early)
            self.record(iteration, alarm_kl=1.0)
            self._save(ppo)  # training is over, and a run that is ended here must not do it again
            return
        following.num_learned_tokens += params.num_epochs * num_models * num_tokens
        self.explained_variances.append(ppo.metrics["explained_variance"])
        is_last = iteration == params.num_iterations
        is_validated = iteration % params.validate_every == 0 or is_last
        if is_validated:
            following.validate(iteration, ppo.learned_state)
        if iteration % params.sample_every == 0 or is_last:
            following.sample(iteration)
        if is_validated and not is_last:  # after the samples, which show what was rolled back
            self._roll_back_if_alarmed(ppo)
        is_end = is_last or ppo.stopped_early or self.checkpoints.is_end_requested
        if is_end or iteration % params.checkpoint_every == 0:
            self._save(ppo)

    def _roll_back_if_alarmed(self, ppo: Ppo) -> None:
        """Back to what is kept, with a stronger pull to the SFT model; the end of training if that did not help."""
        alarms, watch, kept = self.params.alarms, self.following.watch, self.following.kept
        self.num_alarmed = self.num_alarmed + 1 if OVEROPTIMIZATION in watch.standing else 0
        if self.num_alarmed < alarms.rollback_after:
            return
        if len(watch.rollbacks) == alarms.max_rollbacks:
            ppo.stop(f"over-optimization in iteration {ppo.iteration} after {alarms.max_rollbacks} rollbacks")
            logger.warning("align: stopped early: %s", ppo.stopped_early)
            return
        ppo.roll_back(kept.learned, alarms.rollback_kl_factor)
        self.num_alarmed = 0
        watch.roll_back(ppo.iteration, kept.iteration, ppo.controller.coefficient)

    def _save(self, ppo: Ppo) -> None:
        state = {
            "ppo": ppo.full_state(),
            "following": self.following.state(),
            "num_alarmed": self.num_alarmed,
            "explained_variances": self.explained_variances,
        }
        with self.checkpoints.saving(ppo.iteration) as folder:
            torch.save(state, folder / STATE)
