"""Cross-validation by conversation: every candidate is fitted on the same folds and meets the same held-out pairs.

Held-out pairs are made within a fold, so that neither reply of a pair was fitted on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bench.finish import finish
from groundup.core.formats.jsonl import Row
from groundup.core.judging.judge import Chat
from groundup.core.judging.others import kind_of
from groundup.core.judging.pairs import ReplyPair, reply_pairs
from groundup.core.judging.statistics import Floats, cluster_bootstrap, wins
from groundup.evaluate.controls import TITLES, Scorer, choose_controls, with_replies
from groundup.evaluate.shown import TIE
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.judge import JudgeParams

FINDS, MOVED = "finds", "moved"
COLUMNS = (FINDS, MOVED, *TITLES)

Fit = Callable[[Sequence[Row]], Scorer]  # from conversations {id, messages}
# For each of COLUMNS and each held-out pair: 1 where the reply beats the one from elsewhere, 0.5 for a tie.
Measured = dict[str, Any]


@dataclass(frozen=True)
class Fold:
    fitted: list[Row]  # conversations of the other folds
    chosen_on: list[ReplyPair]  # some of theirs, on which controls are chosen
    held_out: list[ReplyPair]
    moves: list[int]  # for each held-out pair, the index of the one to whose place its replies are moved


@dataclass(frozen=True)
class Rate:
    value: float
    low: float
    high: float


def split(rows: Sequence[Row], params: JudgeParams, num_folds: int, num_chosen_on: int) -> list[Fold]:
    rng = np.random.default_rng(params.seed)
    names = sorted(row["id"] for row in rows)
    fold_of = dict(zip(names, rng.permutation(len(names)) % num_folds, strict=True))
    folds = []
    for fold in range(num_folds):
        fitted = [row for row in rows if fold_of[row["id"]] != fold]
        seen, held_out = (
            [pair for pair in reply_pairs(part, params) if len(pair.given) > 1]
            for part in (fitted, [row for row in rows if fold_of[row["id"]] == fold])
        )
        chosen_on = [seen[i] for i in rng.permutation(len(seen))[:num_chosen_on]]
        folds.append(Fold(fitted, chosen_on, held_out, [_another(held_out, pair, rng) for pair in held_out]))
    return folds


def _another(pairs: Sequence[ReplyPair], moved: ReplyPair, rng: np.random.Generator) -> int:
    """At the same point of its conversation, if there is one."""
    others = [i for i, pair in enumerate(pairs) if pair.conversation_id != moved.conversation_id]
    alike = [i for i in others if kind_of(pairs[i].given[:-1]) == kind_of(moved.given[:-1])]
    return int(rng.choice(alike or others))


def measure(work: Path, fit: Fit, folds: Sequence[Fold]) -> Measured:
    """Computed unless it was before, in the folder `work`."""

    def compute(checkpoints: Checkpoints) -> Measured:
        by_fold = [_measure_fold(fit(fold.fitted), fold) for fold in folds]
        return {column: np.concatenate([won[column] for won in by_fold]).tolist() for column in COLUMNS}

    return finish(work, compute)


def _measure_fold(scorer: Scorer, fold: Fold) -> dict[str, Floats]:
    before, given, wrong = _parts(fold.held_out)
    elsewhere = scorer.score(with_replies(before, wrong))
    there = [before[i] for i in fold.moves]
    won = {
        FINDS: wins(scorer.score(with_replies(before, given)), elsewhere),
        MOVED: wins(scorer.score(with_replies(there, given)), scorer.score(with_replies(there, wrong))),
    }
    before_chosen, _, wrong_chosen = _parts(fold.chosen_on)
    for name, control in choose_controls(scorer, before_chosen, wrong_chosen).items():
        won[name] = wins(scorer.score(with_replies(before, list(map(control, before)))), elsewhere)
    return won


def _parts(pairs: Sequence[ReplyPair]) -> tuple[list[Chat], list[str], list[str]]:
    """Messages before, the given reply and the one from elsewhere."""
    return (
        [pair.given[:-1] for pair in pairs],
        [pair.given[-1]["content"] for pair in pairs],
        [pair.wrong[-1]["content"] for pair in pairs],
    )


def rates(measured: Measured, folds: Sequence[Fold], params: JudgeParams) -> dict[str, Rate]:
    """With 95 % intervals over conversations, for a moved reply both that it is from and that it went to."""
    return {column: _rate(measured[column], _clusters(folds, column == MOVED), params) for column in COLUMNS}


def difference(measured: Measured, baseline: Measured, folds: Sequence[Fold], params: JudgeParams) -> Rate:
    """Of the share of a person's replies that are found, pair by pair."""
    return _rate(np.subtract(measured[FINDS], baseline[FINDS]), _clusters(folds, False), params)


def num_controls_that_win(found: dict[str, Rate]) -> int:
    return sum(found[name].low > TIE for name in TITLES)


def _rate(values: ArrayLike, clusters: Sequence[Sequence[str]], params: JudgeParams) -> Rate:
    array = np.asarray(values, dtype=np.float64)
    return Rate(float(array.mean()), *cluster_bootstrap(array, clusters, params.bootstrap_samples, params.seed))


def _clusters(folds: Sequence[Fold], is_moved: bool) -> list[list[str]]:
    return [
        [pair.conversation_id, *([fold.held_out[there].conversation_id] if is_moved else [])]
        for fold in folds
        for pair, there in zip(fold.held_out, fold.moves, strict=True)
    ]
