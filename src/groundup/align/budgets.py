"""Whether a policy stays within align.budgets on the validation prompts, with a margin for their sampling error."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from groundup.core.judging.statistics import clustered_mean
from groundup.core.model.generation import DISTINCT_2_TOKENS, distinct_2
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import Prompt
from groundup.core.rollout.style import human_style_rates, outside, style
from groundup.runner.params.align import BudgetParams

PLAIN_STATE = ("sft", "sft_ended", "sft_style")


class Budgets:
    """A budget holds for the estimate and one standard error more, so that other prompts rarely exceed it."""

    def __init__(self, prompts: list[Prompt], params: BudgetParams) -> None:
        self.prompts = prompts
        self.clusters = [prompt.conversation_id for prompt in prompts]
        self.params = params
        self.people = human_style_rates(prompts)
        self.sft: list[list[int]] = []  # the SFT model's replies, with which the policy's are compared by prompt
        self.sft_ended: list[bool] = []
        self.sft_style: dict[str, float] = {}

    def start(self, answers: Answers, replies: Sequence[str]) -> None:
        """Take the SFT model's replies as the reference."""
        self.sft, self.sft_ended = answers.tokens, answers.ended
        self.sft_style = {name: float(np.mean(values)) for name, values in style(self.prompts, replies).items()}

    def exceeded(self, answers: Answers, replies: Sequence[str]) -> list[str]:
        """The names of the budgets that the policy exceeds."""
        kl, kl_error = clustered_mean(answers.kl.tolist(), self.clusters)
        excess = {
            "kl": kl + kl_error - self.params.kl,
            "length": self._length(answers) - self.params.length,
            "diversity": self._diversity(answers),
        }
        for name, values in style(self.prompts, replies).items():
            excess[name] = self._left(values, self.sft_style[name], self.people.get(name, self.sft_style[name]))
        excess["end_of_turn_rate"] = self._left(answers.ended, float(np.mean(self.sft_ended)), people=1.0)
        return [name for name, value in excess.items() if value > 0]

    def _left(self, has: Sequence[float], sft: float, people: float) -> float:
        """By how much more than the budget the share of replies that have it is outside the range, at most."""
        rate, error = clustered_mean(has, self.clusters)
        return max(outside(rate + sign * error, sft, people) for sign in (-1, 1)) - self.params.style

    def _length(self, answers: Answers) -> float:
        """Share of SFT's mean length by which the mean length differs, at most, where the replies of both end by
        themselves: one that is cut has no length of its own, and to end more often is no shorter reply. All replies
        count where fewer than two conversations have such a pair.
        """
        rows = [i for i, both in enumerate(zip(answers.ended, self.sft_ended, strict=True)) if all(both)]
        if len({self.clusters[i] for i in rows}) < 2:
            rows = list(range(len(self.sft)))
        differences = [len(answers.tokens[i]) - len(self.sft[i]) for i in rows]
        difference, error = clustered_mean(differences, [self.clusters[i] for i in rows])
        return (abs(difference) + error) / float(np.mean([len(self.sft[i]) for i in rows]))

    def _diversity(self, answers: Answers) -> float:
        """How far distinct-2 is below the least allowed, at most."""

        def missing(rows: Sequence[int]) -> float:
            sft, policy = (
                distinct_2([replies[i] for i in rows], DISTINCT_2_TOKENS) for replies in (self.sft, answers.tokens)
            )
            return (1 - self.params.diversity) * sft - policy

        return missing(range(len(self.sft))) + jackknife_error(missing, self.clusters)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PLAIN_STATE}

    def load_state(self, state: dict[str, Any]) -> None:
        for name in PLAIN_STATE:
            setattr(self, name, state[name])


def jackknife_error(statistic: Callable[[Sequence[int]], float], clusters: Sequence[str]) -> float:
    """Standard error of a statistic of rows, from leaving out one cluster at a time; infinite with one cluster."""
    names = sorted(set(clusters))
    if len(names) < 2:
        return math.inf
    left_out = [statistic([i for i, cluster in enumerate(clusters) if cluster != name]) for name in names]
    return float(np.std(left_out) * math.sqrt(len(names) - 1))
