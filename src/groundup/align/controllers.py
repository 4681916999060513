"""Coefficients that adapt to the policy: for the KL penalty, the reply length and the entropy."""

import math
from typing import Any

from torch import Tensor

MAX_ERROR = 0.2  # section 2.2 of Ziegler et al. 2019

State = dict[str, Any]
LENGTH_STATE = ("target", "integral", "earned", "num_updates", "coefficient")


class AdaptiveKl:
    """Raises the coefficient while the KL is above its target, else lowers it (Ziegler et al. 2019, 1909.08593).

    In its logarithm, so that it stays positive; one update changes it by a factor of at most e^0.2 = 1.22.
    """

    def __init__(self, coefficient: float, target: float, horizon: float) -> None:
        self.coefficient = coefficient
        self.target = target  # nats per reply
        self.horizon = horizon  # replies

    def update(self, kl: float, num_replies: int) -> None:
        error = min(max(kl / self.target - 1, -MAX_ERROR), MAX_ERROR)
        self.coefficient *= math.exp(error * min(1.0, num_replies / self.horizon))

    def state(self) -> State:
        return {"coefficient": self.coefficient}

    def load_state(self, state: State) -> None:
        self.coefficient = state["coefficient"]


class LengthControl:
    """Keeps the mean reply length near the reference's, so that a longer reply is not a way to a higher reward.

    The coefficient is the multiplier of that constraint. It takes from length what it has earned in the mean of all
    iterations; on top of that an integral part holds the length, and a proportional part damps oscillations around it
    (PID Lagrangian, Stooke et al. 2020, 2007.03964). The length answers about three iterations late, so a high gain
    swings for ever: the default is a fifth of one that did, with an integral to match (Tyreus and Luyben 1992).
    """

    def __init__(self, gain: float, rate: float) -> None:
        self.gain = gain
        self.rate = rate
        self.target = 1.0  # tokens: set from the reference before the first iteration
        self.integral = 0.0
        self.earned = 0.0  # reward for twice the target length, the mean over iterations
        self.num_updates = 0
        self.coefficient = 0.0  # reward for a reply of twice the target length

    def bonus(self, lengths: Tensor) -> Tensor:
        """[B], zero at the target length."""
        return self.coefficient * (lengths / self.target - 1)

    def update(self, lengths: Tensor, rewards: Tensor) -> None:
        """lengths and rewards [B] of an iteration, without the bonus. A KL penalty that is part of the reward makes
        length cost something: where the rewards here lack it, as in RLOO, the integral has to find that part.
        """
        relative = lengths.double() / self.target - 1
        self.num_updates += 1
        self.earned += (slope(relative, rewards.double()) - self.earned) / self.num_updates
        error = -relative.mean().item()
        self.integral += self.rate * error
        if self.gain > 0 or self.rate > 0:  # else there is no control
            self.coefficient = self.integral + self.gain * error - self.earned

    def state(self) -> State:
        return {name: getattr(self, name) for name in LENGTH_STATE}

    def load_state(self, state: State) -> None:
        for name in LENGTH_STATE:
            setattr(self, name, state[name])


def slope(x: Tensor, y: Tensor) -> float:
    """Of the line through the points by least squares; 0 where all x are equal."""
    deviations = x - x.mean()
    squares = deviations.square().sum().item()
    return (deviations @ y).item() / squares if squares > 0 else 0.0


class EntropyFloor:
    """Raises the entropy coefficient while the entropy is below its floor, else lowers it to its start value.

    The floor is a share of the entropy at the start of training, because what is low depends on the vocabulary and
    the SFT model. The coefficient is the multiplier of that constraint, as in SAC (Haarnoja et al. 2018, 1812.05905).
    """

    def __init__(self, coefficient: float, share: float, rate: float) -> None:
        self.start = coefficient
        self.coefficient = coefficient
        self.share = share
        self.rate = rate
        self.floor: float | None = None  # nats per token; set from the first entropy

    def update(self, entropy: float) -> None:
        if self.floor is None:
            self.floor = self.share * entropy
        if self.floor > 0:
            self.coefficient = max(self.start, self.coefficient + self.rate * (1 - entropy / self.floor))

    def state(self) -> State:
        return {"coefficient": self.coefficient, "floor": self.floor}

    def load_state(self, state: State) -> None:
        self.coefficient, self.floor = state["coefficient"], state["floor"]
