"""The scaling law of bits per byte L in parameters N and tokens D: L = E + A N^-a + B D^-b (Hoffmann et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import least_squares

FLOPS_PER_PARAMETER_AND_TOKEN = 6  # as groundup.core.training.cost counts


@dataclass(frozen=True)
class Law:
    irreducible: float  # E
    of_parameters: float  # A
    alpha: float
    of_tokens: float  # B
    beta: float

    def bits_per_byte(self, parameters: Any, tokens: Any) -> Any:
        return self.irreducible + self.of_parameters * parameters**-self.alpha + self.of_tokens * tokens**-self.beta

    def best_parameters(self, flops: Any) -> Any:
        """N that minimises L where 6 N D is `flops`: the paper's equation 4."""
        scale = (self.alpha * self.of_parameters / (self.beta * self.of_tokens)) ** (1 / (self.alpha + self.beta))
        return scale * (flops / FLOPS_PER_PARAMETER_AND_TOKEN) ** (self.beta / (self.alpha + self.beta))

    def frontier(self, flops: Any) -> Any:
        """L of the best size at so much compute: E + k C^-g with g of `exponent`."""
        parameters = self.best_parameters(flops)
        return self.bits_per_byte(parameters, flops / FLOPS_PER_PARAMETER_AND_TOKEN / parameters)

    @property
    def exponent(self) -> float:
        return self.alpha * self.beta / (self.alpha + self.beta)


def fit_law(cells: Sequence[dict[str, Any]]) -> Law:
    """As the paper's approach 3: Huber loss of log L, the best of a grid of starts."""
    parameters, tokens, values = (
        np.array([float(cell[key]) for cell in cells]) for key in ("num_parameters", "num_tokens", "val_bits_per_byte")
    )
    # With N and D in units of their geometric means A and B are of the order of L.
    units = [np.exp(np.log(x).mean()) for x in (parameters, tokens)]

    def residuals(logs: np.ndarray) -> np.ndarray:
        e, a, alpha, b, beta = np.exp(logs)
        return np.log(e + a * (parameters / units[0]) ** -alpha + b * (tokens / units[1]) ** -beta) - np.log(values)

    starts = product((0.5, 1.0, 1.5), (0.05, 0.3), (0.3, 0.7), (0.1, 0.5), (0.3, 0.7))
    fits = [least_squares(residuals, np.log(start), loss="huber", f_scale=1e-2) for start in starts]
    e, a, alpha, b, beta = np.exp(min(fits, key=lambda found: found.cost).x)
    return Law(float(e), float(a * units[0] ** alpha), float(alpha), float(b * units[1] ** beta), float(beta))
