"""Problems that a rising reward can hide, checked at every validation. Independent of the training method."""

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from groundup.align.monitor import score_change
from groundup.core.judging.judge import Judge
from groundup.core.judging.statistics import clustered_mean
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import Prompt
from groundup.core.rollout.style import human_style_rates, outside, style_rates
from groundup.runner.files import write_json
from groundup.runner.params.align import AlarmParams

logger = logging.getLogger(__name__)

FILE = "alarms.json"

OVEROPTIMIZATION, LENGTH, REPETITION, STYLE, KL = KINDS = ("overoptimization", "length", "repetition", "style", "kl")

REMEDIES = {
    OVEROPTIMIZATION: "raise the weight of the KL penalty or pessimism in align.rewards, or add preference data",
    LENGTH: "raise the method's length_control_gain or the weight of length in align.rewards",
    REPETITION: "raise the weight of repetition in align.rewards or that of the KL penalty",
    STYLE: "look at the samples, add preference data without this habit, or raise the weight of the KL penalty",
    KL: "lower the method's learning_rate or raise the weight of the KL penalty",
}


@dataclass
class Fired:
    message: str  # of the first iteration
    iterations: list[int] = field(default_factory=list)  # all iterations with this alarm


class Alarms:
    """Compares every validation with iteration 0, the SFT model on the same prompts."""

    def __init__(
        self,
        prompts: list[Prompt],
        tokenizer: PreTrainedTokenizerFast,
        monitor: Judge | None,
        params: AlarmParams,
    ) -> None:
        self.prompts = prompts
        self.clusters = [prompt.conversation_id for prompt in prompts]
        self.tokenizer = tokenizer
        self.monitor = monitor
        self.params = params
        self.people = human_style_rates(prompts)
        self.start: dict[str, Any] = {}  # the figures of iteration 0
        self.fired: dict[str, Fired] = {}
        self.rollbacks: list[dict[str, float]] = []
        self.standing: set[str] = set()  # alarms of the last validation

    def check(self, iteration: int, answers: Answers) -> dict[str, float]:
        """Figures of the validation; `standing` holds its alarms until the next validation."""
        seen = self._observe(answers)
        self.start = self.start or seen
        # A standing alarm stays until half of its cause is gone, so that noise neither ends nor hides it.
        z = self.params.z / 2 if OVEROPTIMIZATION in self.standing else self.params.z
        self.standing = set()
        figures = self._check_reward(iteration, seen, z)
        self._check_replies(iteration, seen)
        return figures | {f"alarm_{name}": float(name in self.standing) for name in KINDS}

    def roll_back(self, iteration: int, to_iteration: int, kl_coefficient: float) -> None:
        """Clear the standing alarms, since training continues from a policy without any, and record the rollback."""
        self.standing = set()
        self.rollbacks.append({"iteration": iteration, "to_iteration": to_iteration, "kl_coefficient": kl_coefficient})
        logger.warning(
            "align: rolled back after iteration %d to the policy of iteration %d, with a KL coefficient of %.3g",
            iteration,
            to_iteration,
            kl_coefficient,
        )

    def fire(self, name: str, iteration: int, message: str) -> None:
        self.standing.add(name)
        if name not in self.fired:
            logger.warning("align: alarm in iteration %d: %s: %s", iteration, message, REMEDIES[name])
            self.fired[name] = Fired(message)
        self.fired[name].iterations.append(iteration)

    def _observe(self, answers: Answers) -> dict[str, Any]:
        replies = self.tokenizer.batch_decode(answers.tokens, skip_special_tokens=True)
        seen: dict[str, Any] = {
            "scores": answers.scores.tolist(),
            "length": answers.lengths.mean().item(),
            "repetition": answers.repetition.mean().item(),
            "style": style_rates(self.prompts, replies),
            "kl": answers.kl.mean().item(),
        }
        if self.monitor is not None:
            chats = [
                [*prompt.messages, {"role": "assistant", "content": reply}]
                for prompt, reply in zip(self.prompts, replies, strict=True)
            ]
            seen["monitor_scores"] = self.monitor.score_by_resample(chats).tolist()
        return seen

    def _check_reward(self, iteration: int, seen: dict[str, Any], z: float) -> dict[str, float]:
        if self.monitor is None:
            return {}
        gains = [after - before for before, after in zip(self.start["scores"], seen["scores"], strict=True)]
        gain, gain_error = clustered_mean(gains, self.clusters)
        before, after = np.array(self.start["monitor_scores"]), np.array(seen["monitor_scores"])
        change, change_error = score_change(before, after, self.clusters)
        if gain > z * gain_error and change < -z * change_error:
            self.fire(
                OVEROPTIMIZATION,
                iteration,
                f"the score rose by {gain:.3f} (standard error {gain_error:.3f}) since iteration 0 while the monitor "
                f"judge's fell by {-change:.3f} (standard error {change_error:.3f}), on the same "
                f"{len(gains)} prompts",
            )
        return {
            "val_monitor_score": float(after[0].mean()),
            "val_monitor_change": change,
            "val_monitor_z": change / change_error if change_error else 0.0,
        }

    def _check_replies(self, iteration: int, seen: dict[str, Any]) -> None:
        drift = seen["length"] / self.start["length"] - 1
        if abs(drift) > self.params.length_drift:
            self.fire(
                LENGTH,
                iteration,
                f"replies are {seen['length']:.1f} tokens long, {drift:+.0%} against iteration 0, "
                f"more than alarms.length_drift {self.params.length_drift:.0%}",
            )
        rise = seen["repetition"] - self.start["repetition"]
        if rise > self.params.repetition_rise:
            self.fire(
                REPETITION,
                iteration,
                f"{seen['repetition']:.0%} of the trigrams of a reply stood in it before, {rise:+.0%} against "
                f"iteration 0, more than alarms.repetition_rise {self.params.repetition_rise:.0%}",
            )
        for name, rate in seen["style"].items():
            bounds = (self.start["style"][name], self.people.get(name, self.start["style"][name]))
            people = f" and {bounds[1]:.0%} of people" if name in self.people else ""
            if outside(rate, *bounds) > self.params.style:
                self.fire(
                    STYLE,
                    iteration,
                    f"{name} is {rate:.0%}, {bounds[0]:.0%} in iteration 0{people}, "
                    f"further away than alarms.style {self.params.style:.0%}",
                )
        if seen["kl"] > self.params.kl_stop:
            self.fire(KL, iteration, f"KL {seen['kl']:.2f} above kl_stop {self.params.kl_stop}")

    def metrics(self) -> dict[str, float | int | str]:
        fired = [name for name in KINDS if name in self.fired]
        metrics: dict[str, float | int | str] = {
            "alarms": len(fired),
            "alarms_fired": ", ".join(fired) or "none",
            "rollbacks": len(self.rollbacks),
        }
        if self.monitor is not None:
            agreement = self.monitor.agreement
            metrics["monitor_agreement"] = agreement.accuracy
            metrics["monitor_agreement_ci_low"] = agreement.accuracy_ci_low
            metrics["monitor_agreement_ci_high"] = agreement.accuracy_ci_high
        return metrics

    def write(self, report: Path) -> None:
        report.mkdir(parents=True, exist_ok=True)
        write_json(
            report / FILE,
            {
                "monitor": asdict(self.monitor.agreement) if self.monitor else None,
                "alarms": {name: asdict(self.fired[name]) for name in KINDS if name in self.fired},
                "rollbacks": self.rollbacks,
            },
        )

    def state(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "fired": {name: asdict(fired) for name, fired in self.fired.items()},
            "rollbacks": self.rollbacks,
            "standing": sorted(self.standing),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.start = state["start"]
        self.fired = {name: Fired(**fired) for name, fired in state["fired"].items()}
        self.rollbacks = state["rollbacks"]
        self.standing = set(state["standing"])
