"""What figures need of a judge: a score for each reply in its conversation, and how often it agrees with people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from groundup.core.formats.records import Message
from groundup.core.judging.statistics import Floats

Chat = Sequence[Message]


@dataclass(frozen=True)
class Agreement:
    """How often a judge prefers the given reply, in conversations that it was not fitted on: 0.5 is chance."""

    accuracy: float
    accuracy_ci_low: float
    accuracy_ci_high: float
    num_pairs: int
    num_conversations: int


class Judge(Protocol):
    """Scores the last message of each chat, given the messages before."""

    @property
    def agreement(self) -> Agreement: ...

    def score(self, chats: Sequence[Chat]) -> Floats:
        """[N]"""
        ...

    def score_by_resample(self, chats: Sequence[Chat]) -> Floats:
        """[1 + R, N]: score(), then the scores of R judges that show how far off the first may be; R may be 0."""
        ...

    def centred_on(self, conversations: Sequence[Chat]) -> "Judge":
        """The judge under which a reply that fits all these conversations fits none."""
        ...

    def read_ahead(self, chats: Sequence[Chat]) -> None:
        """Called before many replies to the same conversations are scored one player at a time: a judge for which that
        is dear reads each conversation once. No score changes.
        """

    def uncentred(self) -> "Judge":
        """A judge that a reply which fits everywhere can fool, to show that controls can fail."""
        ...


def judge_error(estimates: Floats) -> float:
    """Standard error of an estimate due to the judge, from its values by resample [R] (the bootstrap).

    Not the jackknife: a win rate jumps where a judge barely prefers one side, which makes the jackknife too large.
    """
    return float(np.std(estimates, ddof=1))
