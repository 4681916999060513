"""The built-in judge, and what it would be without its parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.compare_judges.likelihood import NOTHING
from groundup.core.formats.jsonl import Row
from groundup.core.judging.judge import Chat
from groundup.core.judging.statistics import Floats
from groundup.core.judging.word_judge import WordJudge
from groundup.evaluate.controls import Scorer
from groundup.runner.params.judge import JudgeParams

NUM_RESAMPLES = 2  # the error of a judge is not asked here


@dataclass(frozen=True)
class Products:
    params: JudgeParams
    counts_copied: bool
    is_centred: bool

    def __call__(self, rows: Sequence[Row]) -> WordJudge:
        changes: dict[str, float] = {"num_resamples": NUM_RESAMPLES}
        if self.counts_copied:
            changes |= {"copied_words": 0, "common_words": 0.0}  # no run is a copy, and every word may be said again
        judge = WordJudge.fit(rows, self.params.model_copy(update=changes))
        return judge if self.is_centred else judge.uncentred()


@dataclass(frozen=True)
class Sum:
    """Of scores in units of their standard deviation over the replies given in the conversations fitted on."""

    scorers: Sequence[Scorer]
    scales: Sequence[float]

    @classmethod
    def of(cls, scorers: Sequence[Scorer], chats: Sequence[Chat]) -> "Sum":
        scores = (scorer.score(chats) for scorer in scorers)
        return cls(scorers, [float(found[found > NOTHING].std()) for found in scores])

    def score(self, chats: Sequence[Chat]) -> Floats:
        scores = np.array([scorer.score(chats) for scorer in self.scorers])
        return np.asarray((scores / np.array(self.scales)[:, np.newaxis]).sum(axis=0))
