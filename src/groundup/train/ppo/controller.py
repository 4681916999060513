"""The adaptive KL coefficient."""

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
