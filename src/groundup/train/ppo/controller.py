"""Coefficients that follow what the policy does: of the KL penalty and of the reply length."""

from torch import Tensor

MAX_ERROR = 0.2  # section 2.2 of the paper


class AdaptiveKl:
    """Raises the coefficient while the KL is above its target, lowers it below (Ziegler et al. 2019, 1909.08593)."""

    def __init__(self, coefficient: float, target: float, horizon: float) -> None:
        self.coefficient = coefficient
        self.target = target  # nats per reply
        self.horizon = horizon  # replies

    def update(self, kl: float, num_replies: int) -> None:
        error = min(max(kl / self.target - 1, -MAX_ERROR), MAX_ERROR)
        self.coefficient *= 1 + error * num_replies / self.horizon


class LengthControl:
    """Keeps the mean reply length near that of the reference, so that length is no way to a higher reward.

    The coefficient is the multiplier of that constraint. Its integral part holds the length, its proportional part
    damps what would swing around it (PID Lagrangian, Stooke et al. 2020, 2007.03964).
    """

    def __init__(self, gain: float, rate: float) -> None:
        self.gain = gain
        self.rate = rate
        self.target = 1.0  # tokens: set from the reference before the first iteration
        self.integral = 0.0
        self.coefficient = 0.0  # reward for a reply of twice the target length

    def bonus(self, lengths: Tensor) -> Tensor:
        """[B], zero at the target."""
        return self.coefficient * (lengths / self.target - 1)

    def update(self, mean_length: float) -> None:
        error = 1 - mean_length / self.target
        self.integral += self.rate * error
        self.coefficient = self.integral + self.gain * error
