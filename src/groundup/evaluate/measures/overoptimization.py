"""Over-optimization: scores of the reward model and the gold judge at every evaluation point of align, against KL.

Gao et al. 2023 (arXiv:2210.10760): the proxy reward keeps rising after the gold reward has turned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from groundup.core.formats.jsonl import read_jsonl
from groundup.core.judging.judge import Judge
from groundup.core.judging.statistics import Floats
from groundup.evaluate.gold import Absent
from groundup.evaluate.intervals import resamples, weighted_mean, with_judge_interval
from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.shown import Chart, Line, Section, Shown, number

FILE = "evaluation_points.jsonl"
COLUMNS = ("iteration", "prompt", "conversation_id", "messages", "reply", "score", "score_std", "kl", "kept")


class Overoptimization(Measure):
    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        judge, params = self.context.judge, self.context.params
        if isinstance(judge, Absent):
            return Shown()
        found = study(self.context.points, judge, params.bootstrap_samples, params.seed)
        return Shown(
            sentences=study_sentences(found),
            sections=[
                Section(
                    "Does the gold judge follow?",
                    "Every evaluation point of alignment on validation prompts: what it optimised, the reward model, "
                    "and the gold judge, which it did not use. Bands are 95\u00a0% intervals, circles the kept "
                    "policy.",
                    chart=study_chart(found),
                )
            ],
            method=[
                "Gold turns: it falls from its best point to the farthest one. The best of several points is above "
                "the last by chance alone, so the interval of the fall holds for all points at once."
            ],
        )


@dataclass(frozen=True)
class Gain:
    """Mean over prompts, paired, in standard deviations of the SFT model's replies; 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.value)} ({number(self.low)} to {number(self.high)})"


@dataclass(frozen=True)
class Point:
    iteration: int
    kl: float  # nats per reply
    kept: bool
    proxy: Gain
    gold: Gain
    uncertainty: float  # mean std of the reward model's scores; 0 without a variational head


@dataclass(frozen=True)
class Study:
    points: list[Point]  # in order of KL
    fall: Gain  # change of gold, from its best point to the point of highest KL; simultaneous interval

    @property
    def best(self) -> Point:
        return max(self.points, key=lambda point: point.gold.value)

    @property
    def farthest(self) -> Point:
        return self.points[-1]

    @property
    def kept(self) -> Point:
        return next(point for point in self.points if point.kept)


def read_points(path: Path) -> list[dict[str, Any]]:
    """ValueError unless iteration 0 is present and all iterations have the same prompts."""
    rows = list(read_jsonl(path, COLUMNS))
    prompts: dict[int, list[str]] = {}
    for row in rows:
        prompts.setdefault(row["iteration"], []).append(str(row["prompt"]))
    if 0 not in prompts or any(sorted(of_point) != sorted(prompts[0]) for of_point in prompts.values()):
        raise ValueError(
            f"{path} must hold iteration 0 and the same prompts at every iteration; run `dvc repro align` again"
        )
    return rows


def study(rows: Sequence[dict[str, Any]], judge: Judge, num_resamples: int, seed: int) -> Study:
    """rows: from read_points; iteration 0 is the SFT model. The judge's mean is over their prompts."""
    iterations = sorted({row["iteration"] for row in rows})
    by_iteration = [
        sorted((row for row in rows if row["iteration"] == iteration), key=lambda row: int(row["prompt"]))
        for iteration in iterations
    ]
    chats = [[*row["messages"], {"role": "assistant", "content": row["reply"]}] for p in by_iteration for row in p]
    here = judge.centred_on([row["messages"] for row in by_iteration[0]])
    gold = here.score_by_resample(chats).reshape(-1, len(iterations), len(by_iteration[0]))  # [1 + R, I, P]
    proxy = np.array([[row["score"] for row in point] for point in by_iteration], dtype=np.float64)[None]
    weights = resamples([row["conversation_id"] for row in by_iteration[0]], num_resamples, seed)
    gold, proxy = (values / (float(values[0, 0].std()) or 1.0) for values in (gold, proxy))

    def gain(values: Floats, start: int, end: int) -> Gain:
        return Gain(*with_judge_interval("", values[:, end] - values[:, start], weights, weighted_mean).values())

    points = [
        Point(
            iteration=iteration,
            kl=float(np.mean([row["kl"] for row in point])),
            kept=any(row["kept"] for row in point),
            proxy=gain(proxy, 0, i),
            gold=gain(gold, 0, i),
            uncertainty=float(np.mean([row["score_std"] for row in point])),
        )
        for i, (iteration, point) in enumerate(zip(iterations, by_iteration, strict=True))
    ]
    farthest = max(range(len(points)), key=lambda i: points[i].kl)
    return Study(sorted(points, key=lambda point: point.kl), fall_from_best(gold, farthest, weights, seed))


def fall_from_best(gold: Floats, farthest: int, weights: Floats, seed: int) -> Gain:
    """Change of gold from the point where it is best to the farthest one: [1 + R, I, P], weights [S, P].

    The best of several points is above the farthest by chance alone. So the interval holds for the changes from all
    points at once: its reach, in standard errors, is what the largest of their errors stays below in 95 % of the
    resamples (max-t bootstrap: Romano and Wolf 2005; White 2000). Each resample also draws one of the judges, if any.
    """
    change = gold[:, [farthest]] - gold  # [1 + R, I, P]
    means = change.mean(2)  # [1 + R, I]
    errors = weights @ change[0].T / weights.sum(1, keepdims=True) - means[0]  # [S, I]
    if len(by_judge := means[1:]):
        drawn = np.random.default_rng(seed).integers(0, len(by_judge), len(errors))
        errors = errors + (by_judge - by_judge.mean(0))[drawn]
    spread = errors.std(0)
    moved = spread > 0
    largest = np.abs(errors[:, moved] / spread[moved]).max(1) if moved.any() else np.zeros(1)
    best = int(gold[0].mean(1).argmax())
    value, reach = float(means[0, best]), float(np.quantile(largest, 0.95) * spread[best])
    return Gain(value, value - reach, value + reach)


def study_sentences(found: Study) -> list[str]:
    kept, best, farthest = found.kept, found.best, found.farthest
    if kept.gold.low > 0:
        follows = "gold rises with it"
    elif kept.gold.high < 0:
        follows = "gold falls meanwhile"
    else:
        follows = "gold does not measurably follow"
    turn = f"gold is not seen to turn up to KL {number(farthest.kl)}"
    if found.fall.high < 0:
        turn = f"gold turns at KL {number(best.kl)} and changes by {found.fall} up to KL {number(farthest.kl)}"
    sentences = [
        f"Over-optimisation, in standard deviations of SFT's replies: at the kept policy (KL {number(kept.kl)}) the "
        f"reward model's score is up by {kept.proxy}, the gold judge's by {kept.gold}: {follows}; {turn}."
    ]
    start = next(point for point in found.points if point.iteration == 0)
    if start.uncertainty > 0:
        sentences.append(
            "The reward model's own uncertainty (standard deviation of a score) goes from "
            f"{number(start.uncertainty)} on SFT's replies to {number(kept.uncertainty)} on those of the kept policy."
        )
    return sentences


def study_chart(found: Study, name: str = "") -> Chart:
    """Proxy and gold against KL; `name` goes into the legend if there are several studies."""
    suffix = f", {name}" if name else ""
    gains = {
        "reward model": [point.proxy for point in found.points],
        "gold judge": [point.gold for point in found.points],
    }
    return Chart(
        "Gain over the SFT model (standard deviations of its replies)",
        "KL to the SFT model (nats per reply)",
        [
            Line(
                label + suffix,
                [point.kl for point in found.points],
                [gain.value for gain in of_line],
                [gain.low for gain in of_line],
                [gain.high for gain in of_line],
                circled=found.points.index(found.kept),
            )
            for label, of_line in gains.items()
        ],
    )
