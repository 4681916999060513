"""The plan of kills: drawn from a seed over the instants of an uninterrupted run."""

import random
from dataclasses import dataclass
from signal import SIGINT, SIGKILL, SIGTERM

from tests.chaos.events import Instant

TRAINED = ("pretrain", "sft", "reward", "align")
# Kills per stage: the window, and their number. 8 with SIGKILL for each of the seven stages make 56.
KILLS = {"training": 2, "checkpoint": 2, "export": 1, "publish": 1, "commit": 2}
BURST_SECONDS = 0.05  # a longer gap after a change is work, not writing


@dataclass(frozen=True)
class Kill:
    """`signal` for `target` (self: the process; dvc; group: both), `delay` seconds after an access of `role`."""

    stage: str
    window: str
    role: str
    number: int
    delay: float
    signal: int = SIGKILL
    target: str = "self"
    torn: bool = False  # the newest checkpoint file is cut in half before the resume

    @property
    def variable(self) -> str:
        return f"{self.role} {self.stage} {self.number} {self.delay:.6f} {int(self.signal)} {self.target}"


def plan(found: dict[str, dict[str, list[Instant]]], seed: int) -> list[Kill]:
    """`found`: the windows of each stage."""
    kills = []
    for stage, of_stage in found.items():
        rng = random.Random(f"{seed} {stage}")
        for window, count in KILLS.items():
            kills += [draw(rng, stage, window, of_stage) for _ in range(count)]
        kills.append(draw(rng, stage, "training", of_stage, target="dvc"))
        kills.append(draw(rng, stage, "training", of_stage, signal=SIGTERM))
        if stage in TRAINED:
            kills.append(draw(rng, stage, "training", of_stage, signal=SIGINT, target="group"))
            first = of_stage["export"][0]  # by then there are two checkpoints
            kills.append(Kill(stage, "export", first.role, first.number, 0.0, torn=True))
            kills.append(draw(rng, stage, "training", of_stage, signal=SIGTERM, target="group"))
    return kills


def draw(
    rng: random.Random,
    stage: str,
    window: str,
    found: dict[str, list[Instant]],
    signal: int = SIGKILL,
    target: str = "self",
) -> Kill:
    """Training: uniform in time. Elsewhere half of them at an access, before its effect, and half between accesses.

    A stage that keeps no checkpoints gets another kill in training.
    """
    window = window if window in found else "training"
    instants = found[window]
    if window == "checkpoint":
        instants = [Instant(role, number, min(gap, BURST_SECONDS)) for role, number, gap in instants]
    if window != "training" and rng.random() < 0.5:
        instant, delay = rng.choice(instants), 0.0
    else:
        instant = rng.choices(instants, [gap + 1e-6 for _, _, gap in instants])[0]
        delay = rng.uniform(0, instant.gap)
    return Kill(stage, window, instant.role, instant.number, delay, signal, target)
