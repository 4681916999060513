"""The arithmetic cost of training, which does not depend on the machine."""

from dataclasses import asdict, dataclass
from pathlib import Path

from groundup.runner.files import read_object, write_json

FILE = "cost.json"


@dataclass(frozen=True)
class Cost:
    """Of one training stage, without validation and reports; a token counts each time a model computes it."""

    num_parameters: int  # of the trained model
    num_learned_tokens: int  # forward and backward
    num_read_tokens: int  # forward only: sampled, scored, compared with the reference
    num_trained_parameters: int | None = None  # of the adapter; None: all

    @property
    def flops(self) -> int:
        """2 per parameter and token forward, 4 backward (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).

        Of those 4, frozen weights need 2: gradients pass through them, and they have none of their own. The products
        of tokens with tokens in attention are not counted.
        """
        trained = self.num_parameters if self.num_trained_parameters is None else self.num_trained_parameters
        passes = self.num_parameters * (2 * self.num_learned_tokens + self.num_read_tokens)
        return 2 * (passes + trained * self.num_learned_tokens)


def write_cost(cost: Cost, report: Path) -> None:
    write_json(report / FILE, {name: count for name, count in asdict(cost).items() if count is not None})


def read_cost(report: Path) -> Cost | None:
    """None if the stage has not written it."""
    path = report / FILE
    return Cost(**read_object(path)) if path.exists() else None


def in_short(number: float) -> str:
    """Three digits and a unit prefix, such as 1.54 M; the unit follows."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:,.0f} "
