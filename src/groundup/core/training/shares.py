"""What each rank gets of a batch of the params, which all ranks have together."""

from collections.abc import Callable
from math import gcd


def share_of(number: int, name: str, ranks: int) -> int:
    """What each rank gets of `number`; `name`: the param. ValueError if it is not the same for all."""
    _require(f"{name} {number}", number, ranks, lambda ranks: number % ranks == 0)
    return number // ranks


def share_of_step(stage: str, batch_size: int, accumulate: int, ranks: int) -> tuple[int, int]:
    """(rows of a forward pass, passes per step) of a rank, all ranks together having those of the params.

    Passes are divided first, then the rows of a pass. ValueError if neither can be.
    """

    def rows(ranks: int) -> tuple[int, int]:
        return divmod(batch_size, ranks // gcd(accumulate, ranks))

    named = f"{stage}.batch_size {batch_size} with {stage}.accumulate {accumulate}"
    _require(named, batch_size * accumulate, ranks, lambda ranks: rows(ranks)[1] == 0)
    return rows(ranks)[0], accumulate // gcd(accumulate, ranks)


def _require(named: str, most: int, ranks: int, fits: Callable[[int], bool]) -> None:
    if not fits(ranks):
        fitting = [str(n) for n in range(1, most + 1) if fits(n)]
        raise ValueError(
            f"{named} cannot be divided among {ranks} processes: start {', '.join(fitting[:-1])} or {fitting[-1]}, or "
            f"change it to a multiple of {ranks}"
        )
