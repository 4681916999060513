"""What happens between iterations: curves, validation, alarms, keeping the best, rollback, samples, checkpoints."""

import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch

from groundup.frame.checkpoints import Checkpoints
from groundup.frame.params.align import AlignParams
from groundup.train.ppo.alarms import KL, OVEROPTIMIZATION, Watch
from groundup.train.ppo.evaluation_points import EvaluationPoints
from groundup.train.ppo.models import Weights
from groundup.train.ppo.module import Ppo
from groundup.train.ppo.samples import SampleTable
from groundup.train.runtime import Log

logger = logging.getLogger(__name__)

STATE = "state.pt"


@dataclass
class Kept:
    """Of the validations within the budgets of KL and of reply length and without an alarm, that of highest reward."""

    iteration: int = 0
    reward: float = -math.inf
    learned: dict[str, Any] = field(default_factory=dict)  # Ppo.learned_state

    @property
    def weights(self) -> Weights:
        return self.learned["policy"]


class Schedule(L.Callback):
    """Follows a run. Its state, with that of the module, is one checkpoint."""

    def __init__(
        self,
        validation_seed: int,
        points: EvaluationPoints,
        watch: Watch,
        samples: SampleTable,
        params: AlignParams,
        checkpoints: Checkpoints,
        log: Log,
    ) -> None:
        self.validation_prompts = [prompt.ids for prompt in points.prompts]
        self.validation_seed = validation_seed
        self.points = points
        self.watch = watch
        self.samples = samples
        self.params = params
        self.checkpoints = checkpoints
        self.record = log  # not `log`: Lightning puts its own there
        self.kept = Kept()
        self.num_alarmed = 0  # validations in a row at which the alarm of over-optimisation stood
        self.explained_variances: list[float] = []
        self.num_samples = 0
        self.train_seconds = 0.0  # of this process, validation left out
        self.started = 0.0  # the present iteration, time.perf_counter

    def start(self, ppo: Ppo) -> None:
        """Continue from the newest checkpoint, or start with the SFT model as the first candidate."""
        newest = self.checkpoints.newest()
        if newest is None:
            self._validate(ppo)
            self._sample(ppo)
            return
        state = torch.load(newest / STATE, map_location="cpu", weights_only=True)
        ppo.load_full_state(state["ppo"])
        self.kept = Kept(**state["kept"])
        self.num_alarmed = state["num_alarmed"]
        self.watch.load_state(state["watch"])
        self.explained_variances = state["explained_variances"]
        self.points.rows = state["points"]
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
            self.watch.fire(KL, iteration, ppo.stopped_early)
            self.record(iteration, alarm_kl=1.0)
            self._save(ppo)  # training is over, and a run that is ended here must not do it again
            return
        self.explained_variances.append(ppo.metrics["explained_variance"])
        is_last = iteration == params.num_iterations
        is_validated = iteration % params.validate_every == 0 or is_last
        if is_validated:
            self._validate(ppo)
        if iteration % params.sample_every == 0 or is_last:
            self._sample(ppo)
        if is_validated and not is_last:  # after the samples, which show what was rolled back
            self._roll_back_if_alarmed(ppo)
        is_end = is_last or ppo.stopped_early or self.checkpoints.is_end_requested
        if is_end or iteration % params.checkpoint_every == 0:
            self._save(ppo)

    def _validate(self, ppo: Ppo) -> None:
        """Same prompts and random numbers every time, so that what differs is the policy."""
        rollout = ppo.worker.roll_out(ppo.policy.model, self.validation_prompts, self.validation_seed)
        if ppo.iteration == 0:
            ppo.length_control.target = rollout.summary()["reply_length"]
        summary = ppo.summary(rollout)
        self.points.add(ppo.iteration, rollout.answers)
        figures = self.watch.look(ppo.iteration, rollout.answers)
        self.record(ppo.iteration, **{f"val_{name}": value for name, value in summary.items()}, **figures)
        logger.info(
            "align: iteration %d/%d: validation reward %.3f, KL %.2f nats a reply, length %.1f, end of turn %.2f",
            ppo.iteration,
            self.params.num_iterations,
            summary["reward"],
            summary["kl"],
            summary["reply_length"],
            summary["end_of_turn_rate"],
        )
        self._keep_if_best(ppo, summary)

    def _keep_if_best(self, ppo: Ppo, summary: dict[str, float]) -> None:
        length_change = abs(summary["reply_length"] / ppo.length_control.target - 1)
        is_allowed = summary["kl"] <= self.params.kl_budget and length_change <= self.params.length_budget
        if is_allowed and not self.watch.standing and summary["reward"] > self.kept.reward:
            self.kept = Kept(ppo.iteration, summary["reward"], ppo.learned_state())

    def _roll_back_if_alarmed(self, ppo: Ppo) -> None:
        """Back to what is kept, with a stronger pull to the SFT model; the end of training if that did not help."""
        alarms = self.params.alarms
        self.num_alarmed = self.num_alarmed + 1 if OVEROPTIMIZATION in self.watch.standing else 0
        if self.num_alarmed < alarms.rollback_after:
            return
        if len(self.watch.rollbacks) == alarms.max_rollbacks:
            ppo.stop(f"over-optimization in iteration {ppo.iteration} after {alarms.max_rollbacks} rollbacks")
            logger.warning("align: stopped early: %s", ppo.stopped_early)
            return
        ppo.roll_back(self.kept.learned, alarms.rollback_kl_factor)
        self.num_alarmed = 0
        self.watch.roll_back(ppo.iteration, self.kept.iteration, ppo.controller.coefficient)

    def _sample(self, ppo: Ppo) -> None:
        rollout = ppo.worker.roll_out(ppo.policy.model, self.samples.prompt_ids, self.validation_seed)
        self.samples.add(ppo.iteration, rollout)

    def write(self, report: Path) -> None:
        """What evaluation and people read of the run."""
        self.samples.write()
        self.points.write(report, self.kept.iteration)
        self.watch.write(report)

    def _save(self, ppo: Ppo) -> None:
        """Tensors, numbers, strings, lists and dicts only: loading runs no code."""
        state = {
            "ppo": ppo.full_state(),
            "kept": vars(self.kept),
            "num_alarmed": self.num_alarmed,
            "watch": self.watch.state(),
            "explained_variances": self.explained_variances,
            "points": self.points.rows,
            "samples": self.samples.rows,
        }
        with self.checkpoints.saving(ppo.iteration) as folder:
            torch.save(state, folder / STATE)
