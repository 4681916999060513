"""Seeds for random draws in alignment, derived from the stage's seed and a path of numbers."""

import numpy as np

# An iteration, counted from 1, is a path of one number.
VALIDATION, TEST, PAIRS = (0, 1), (0, 2), (0, 3)


def derived_seed(*path: int) -> int:
    """A separate seed for each path of numbers, such as (seed, iteration)."""
    return int(np.random.SeedSequence(path).generate_state(1)[0])
