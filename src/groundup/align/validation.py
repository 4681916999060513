"""Validation between the iterations of any method: alarms, the best policy, samples."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup.align.alarms import Alarms
from groundup.align.budgets import Budgets
from groundup.align.evaluation_points import EvaluationPoints
from groundup.align.policy import Weights
from groundup.align.rollout import RolloutWorker
from groundup.align.samples import SampleTable
from groundup.align.seeds import VALIDATION, derived_seed
from groundup.core.judging.judge import Judge
from groundup.core.rollout.prompts import Prompt
from groundup.core.rollout.rewards.shaping import shaped_rewards
from groundup.core.rollout.style import style_rates
from groundup.core.training.ranks import is_first
from groundup.core.training.runtime import Log
from groundup.runner.params.align import AlignParams

logger = logging.getLogger(__name__)

PLAIN_STATE = ("reference_length", "num_learned_tokens", "num_read_tokens")


@dataclass
class BestPolicy:
    """The policy with the highest reward among validations within all budgets and without an alarm."""

    iteration: int = 0
    reward: float = -math.inf
    learned: dict[str, Any] = field(default_factory=dict)  # what training changed; weights under "policy"

    @property
    def weights(self) -> Weights:
        return self.learned["policy"]


class Validation:
    """Measures the policy during training; its state is part of a checkpoint."""

    def __init__(
        self,
        worker: RolloutWorker,
        prompts: list[Prompt],
        monitor: Judge | None,
        report: Path,
        params: AlignParams,
        log: Log,
    ) -> None:
        self.worker = worker
        self.points = EvaluationPoints(prompts, worker.tokenizer)
        self.alarms = Alarms(prompts, worker.tokenizer, monitor, params.alarms)
        self.budgets = Budgets(prompts, params.budgets)
        self.samples = SampleTable(prompts[: params.validation.num_samples], worker.tokenizer)
        self.report = report
        self.prompt_ids = [prompt.ids for prompt in prompts]
        self.seed = derived_seed(params.seed, *VALIDATION)
        self.params = params
        self.log = log
        self.reference_length = 1.0  # mean reply length of the SFT model, set at iteration 0
        self.best = BestPolicy()
        self.num_samples = 0  # sampled for training, in this process
        self.num_learned_tokens = 0  # as in Cost; over the whole training
        self.num_read_tokens = 0
        self.train_seconds = 0.0  # of this process, without validation

    def validate(self, iteration: int, learned: Callable[[], dict[str, Any]]) -> None:
        """Use the same prompts and random numbers every time, so that only the policy differs."""
        rollout = self.worker.roll_out(self.worker.policy.model, self.prompt_ids, self.seed)
        answers, summary = rollout.answers, rollout.summary()
        replies = self.worker.tokenizer.batch_decode(answers.tokens, skip_special_tokens=True)
        summary |= style_rates(self.points.prompts, replies)
        if iteration == 0:
            self.reference_length = summary["reply_length"]
            self.budgets.start(answers, replies)
        reward = shaped_rewards(answers, self.reference_length, self.params.rewards).mean().item()
        self.points.add(iteration, answers)
        figures = self.alarms.check(iteration, answers)
        self.log(iteration, val_reward=reward, **{f"val_{name}": value for name, value in summary.items()}, **figures)
        logger.info(
            "align: iteration %d/%d: validation reward %.3f, KL %.2f nats per reply, length %.1f, end of turn %.2f",
            iteration,
            self.params.num_iterations,
            reward,
            summary["kl"],
            summary["reply_length"],
            summary["end_of_turn_rate"],
        )
        # The SFT model is the reference of its budgets, and what is kept if nothing else is.
        exceeded = self.budgets.exceeded(answers, replies) if iteration else []
        if exceeded:
            logger.info("align: iteration %d exceeds its budgets: %s", iteration, ", ".join(exceeded))
        if not exceeded and not self.alarms.standing and reward > self.best.reward:
            self.best = BestPolicy(iteration, reward, learned())

    def sample(self, iteration: int) -> None:
        rollout = self.worker.roll_out(self.worker.policy.model, self.samples.prompt_ids, self.seed)
        self.samples.add(iteration, rollout)
        if is_first():
            self.samples.write(self.report)

    def write(self) -> None:
        """Write the files that evaluate and people read."""
        self.samples.write(self.report)
        self.points.write(self.report, self.best.iteration)
        self.alarms.write(self.report)

    def metrics(self) -> dict[str, float | int | str]:
        return {
            "kept_iteration": self.best.iteration,
            "val_reward": self.best.reward,
            "val_kl": self.points.mean("kl", self.best.iteration),
            "val_reply_length": self.points.mean("num_tokens", self.best.iteration),
            **self._style_metrics(),
            "kl_budget": self.params.budgets.kl,
            "train_seconds": self.train_seconds,
            "samples_per_second": self.num_samples / self.train_seconds if self.train_seconds else 0.0,
            **self.alarms.metrics(),
        }

    def _style_metrics(self) -> dict[str, float]:
        """How the kept policy's replies read, and beside it the SFT model's and people's."""
        rates = {
            "": style_rates(self.points.prompts, self.points.replies(self.best.iteration)),
            "_sft": self.budgets.sft_style,
            "_people": self.budgets.people,
        }
        return {f"val_{name}{whose}": rate for whose, of in rates.items() for name, rate in of.items()}

    def state(self) -> dict[str, Any]:
        """Only tensors and plain values, so that loading runs no code."""
        return {
            "best": vars(self.best),
            "alarms": self.alarms.state(),
            "budgets": self.budgets.state(),
            "points": self.points.rows,
            "samples": self.samples.rows,
            **{name: getattr(self, name) for name in PLAIN_STATE},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.best = BestPolicy(**state["best"])
        self.alarms.load_state(state["alarms"])
        self.budgets.load_state(state["budgets"])
        self.points.rows = state["points"]
        self.samples.rows = state["samples"]
        for name in PLAIN_STATE:
            setattr(self, name, state[name])
