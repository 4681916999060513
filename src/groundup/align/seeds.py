"""Seeds of what alignment draws: each follows from the stage's seed and a path of its own."""

import numpy as np

# Iterations, counted from 1, have a path of one number.
VALIDATION, TEST, PAIRS = (0, 1), (0, 2), (0, 3)


def derived_seed(*path: int) -> int:
    """A seed of its own for each path of numbers, such as (seed, iteration)."""
    return int(np.random.SeedSequence(path).generate_state(1)[0])
