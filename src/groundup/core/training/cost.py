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

    @property
    def flops(self) -> int:
        """2 per parameter and token forward, 4 backward (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).

        The products of tokens with tokens in attention are not counted.
        """
        return 2 * self.num_parameters * (3 * self.num_learned_tokens + self.num_read_tokens)


def write_cost(cost: Cost, report: Path) -> None:
    write_json(report / FILE, asdict(cost))


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
