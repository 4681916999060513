"""What is looked at between the iterations of any method: validation, alarms, the policy to keep, samples."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup.align.alarms import Watch
from groundup.align.evaluation_points import EvaluationPoints
from groundup.align.policy import Weights
from groundup.align.rollout import RolloutWorker
from groundup.align.samples import SampleTable
from groundup.core.rollout.rewards.shaping import shaped_rewards
from groundup.core.training.runtime import Log
from groundup.runner.params.align import AlignParams

logger = logging.getLogger(__name__)


@dataclass
class Kept:
    """Of the validations within all budgets and without an alarm, that of the highest reward."""

    iteration: int = 0
    reward: float = -math.inf
    learned: dict[str, Any] = field(default_factory=dict)  # what training had changed, the weights under "policy"

    @property
    def weights(self) -> Weights:
        return self.learned["policy"]


class Following:
    """Looks at the policy as it changes; its state is part of a checkpoint."""

    def __init__(
        self,
        worker: RolloutWorker,
        points: EvaluationPoints,
        watch: Watch,
        samples: SampleTable,
        validation_seed: int,
        params: AlignParams,
        log: Log,
    ) -> None:
        self.worker = worker
        self.points = points
        self.watch = watch
        self.samples = samples
        self.validation_prompts = [prompt.ids for prompt in points.prompts]
        self.validation_seed = validation_seed
        self.params = params
        self.log = log
        self.reference_length = 1.0  # mean reply length of the SFT model, set at iteration 0
        self.reference_distinct_2 = 0.0  # the same of distinct-2
        self.kept = Kept()
        self.num_samples = 0  # replies that training took, in this process
        self.num_learned_tokens = 0  # as in Cost; of the whole training
        self.num_read_tokens = 0
        self.train_seconds = 0.0  # of this process, validation left out

    def validate(self, iteration: int, learned: Callable[[], dict[str, Any]]) -> None:
        """Same prompts and random numbers every time, so that what differs is the policy."""
        rollout = self.worker.roll_out(self.worker.policy.model, self.validation_prompts, self.validation_seed)
        answers, summary = rollout.answers, rollout.summary()
        if iteration == 0:
            self.reference_length, self.reference_distinct_2 = summary["reply_length"], summary["distinct_2"]
        reward = shaped_rewards(answers, self.reference_length, self.params).mean().item()
        self.points.add(iteration, answers)
        figures = self.watch.look(iteration, answers)
        self.log(iteration, val_reward=reward, **{f"val_{name}": value for name, value in summary.items()}, **figures)
        logger.info(
            "align: iteration %d/%d: validation reward %.3f, KL %.2f nats a reply, length %.1f, end of turn %.2f",
            iteration,
            self.params.num_iterations,
            reward,
            summary["kl"],
            summary["reply_length"],
            summary["end_of_turn_rate"],
        )
        self._keep_if_best(iteration, summary | {"reward": reward}, learned)

    def _keep_if_best(self, iteration: int, summary: dict[str, float], learned: Callable[[], dict[str, Any]]) -> None:
        length_change = abs(summary["reply_length"] / self.reference_length - 1)
        is_allowed = (
            summary["kl"] <= self.params.kl_budget
            and length_change <= self.params.length_budget
            and summary["distinct_2"] >= (1 - self.params.diversity_budget) * self.reference_distinct_2
        )
        if is_allowed and not self.watch.standing and summary["reward"] > self.kept.reward:
            self.kept = Kept(iteration, summary["reward"], learned())

    def sample(self, iteration: int) -> None:
        rollout = self.worker.roll_out(self.worker.policy.model, self.samples.prompt_ids, self.validation_seed)
        self.samples.add(iteration, rollout)

    def write(self, report: Path) -> None:
        """What evaluation and people read of the run."""
        self.samples.write()
        self.points.write(report, self.kept.iteration)
        self.watch.write(report)

    def metrics(self) -> dict[str, float | int | str]:
        return {
            "kept_iteration": self.kept.iteration,
            "val_reward": self.kept.reward,
            "val_kl": self.points.mean("kl", self.kept.iteration),
            "val_reply_length": self.points.mean("num_tokens", self.kept.iteration),
            "kl_budget": self.params.kl_budget,
            "train_seconds": self.train_seconds,
            "samples_per_second": self.num_samples / self.train_seconds if self.train_seconds else 0.0,
            **self.watch.metrics(),
        }

    def state(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dicts only: loading runs no code."""
        return {
            "reference_length": self.reference_length,
            "reference_distinct_2": self.reference_distinct_2,
            "kept": vars(self.kept),
            "watch": self.watch.state(),
            "points": self.points.rows,
            "samples": self.samples.rows,
            "num_learned_tokens": self.num_learned_tokens,
            "num_read_tokens": self.num_read_tokens,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.reference_length, self.reference_distinct_2 = state["reference_length"], state["reference_distinct_2"]
        self.kept = Kept(**state["kept"])
        self.watch.load_state(state["watch"])
        self.points.rows = state["points"]
        self.samples.rows = state["samples"]
        self.num_learned_tokens = state["num_learned_tokens"]
        self.num_read_tokens = state["num_read_tokens"]
