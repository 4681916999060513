"""The study on planted evaluation points: gold that follows, gold that turns, points that do not fit together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.app.report.curves import draw_charts
from groundup.core.formats.jsonl import write_jsonl
from groundup.evaluate.intervals import resamples
from groundup.evaluate.measures.overoptimization import (
    FILE,
    Study,
    fall_from_best,
    read_points,
    study,
    study_chart,
    study_sentences,
)
from tests.evaluate.judging import CountingJudge

NUM_PROMPTS = 8


def points(gold: dict[int, int], *, kept: int, std: float = 0.0) -> list[dict[str, Any]]:
    """By iteration, the `lovely`s per reply; half of the prompts have one more. The proxy is the iteration."""
    return [
        {
            "iteration": iteration,
            "prompt": prompt,
            "conversation_id": f"c{prompt}",
            "messages": [{"role": "user", "content": "hi"}],
            "reply": " ".join(["lovely"] * (count + prompt % 2)),
            "ended": True,
            "score": float(iteration + prompt % 2),
            "score_std": std * (1 + iteration),
            "kl": iteration / 2,
            "num_tokens": 4,
            "kept": iteration == kept,
        }
        for iteration, count in gold.items()
        for prompt in range(NUM_PROMPTS)
    ]


def run(gold: dict[int, int], *, kept: int, std: float = 0.0) -> Study:
    return study(points(gold, kept=kept, std=std), CountingJudge(), 50, seed=1)


def test_gains_are_in_standard_deviations_of_sft() -> None:
    result = run({0: 1, 2: 2, 4: 4}, kept=4)
    # SFT's replies score 1 or 2, so their standard deviation is 0.5; the same holds for the proxy.
    assert [point.gold.value for point in result.points] == [0.0, 2.0, 6.0]
    assert [point.proxy.value for point in result.points] == [0.0, 4.0, 8.0]
    assert [point.kl for point in result.points] == [0.0, 1.0, 2.0]
    assert (result.kept.iteration, result.best.iteration, result.farthest.iteration) == (4, 4, 4)
    assert (result.fall.value, result.fall.low, result.fall.high) == (0.0, 0.0, 0.0)
    told = study_sentences(result)[-1]
    assert "gold rises with it; gold is not seen to turn up to KL 2.00" in told


def test_a_turn_is_seen() -> None:
    result = run({0: 1, 2: 3, 4: 2, 6: 0}, kept=6)
    assert (result.best.iteration, result.farthest.iteration) == (2, 6)
    assert (result.fall.value, result.fall.high) == (-6.0, -6.0)
    told = study_sentences(result)[-1]
    assert "gold falls meanwhile; gold turns at KL 1.00 and changes by -6.00 (-6.00 to -6.00) up to KL 3.00" in told


def share_of_turns(gold_by_point: list[float], num_runs: int, num_judges: int = 0) -> float:
    """Of studies of 128 prompts: how often gold is said to turn. Errors of points are correlated by their prompts."""
    rng = np.random.default_rng(3)
    points, turns = len(gold_by_point), 0
    for run in range(num_runs):
        weights = resamples([str(prompt) for prompt in range(128)], 300, seed=run)
        true = np.array(gold_by_point)[:, None]
        gold = true + rng.normal(size=(1, 128)) + rng.normal(size=(points, 128))
        errors = 0.08 * (num_judges > 0) * rng.normal(size=(1 + num_judges, points, 1))
        errors[1:] += errors[0]  # the first judge is used, the others are fitted on resamples of its conversations
        turns += fall_from_best(gold + errors, points - 1, weights, seed=run).high < 0
    return turns / num_runs


def test_on_a_plateau_chance_makes_no_turn() -> None:
    """The best of nine points is above the last in most runs, by chance alone."""
    assert share_of_turns([0.0] + [0.5] * 8, 400) <= 0.05
    assert share_of_turns([0.5] * 9, 400, num_judges=50) <= 0.05


def test_a_real_turn_is_found() -> None:
    assert share_of_turns([0.0, 0.3, 0.6, 0.9, 0.9, 0.7, 0.5, 0.3, 0.1], 100) >= 0.95


def test_points_are_told_in_order_of_kl_not_of_time() -> None:
    rows = points({0: 1, 2: 2, 4: 1}, kept=2)
    for row in rows:
        if row["iteration"] == 4:  # rolled back
            row["kl"] = 0.5
    result = study(rows, CountingJudge(), 50, seed=1)
    assert [point.iteration for point in result.points] == [0, 4, 2]


def test_the_uncertainty_of_a_variational_reward_model_is_mentioned() -> None:
    assert "uncertainty" not in study_sentences(run({0: 1, 2: 2}, kept=2))[-1]
    told = study_sentences(run({0: 1, 2: 2}, kept=2, std=0.5))[-1]
    assert "goes from 0.50 on SFT's replies to 1.50 on those of the kept policy" in told


def test_alignment_that_never_moved_is_drawn_and_told() -> None:
    result = run({0: 1}, kept=0)
    assert "gold does not measurably follow" in study_sentences(result)[-1]
    assert draw_charts([study_chart(result)]).startswith(b"\x89PNG")


def test_replies_that_are_all_worth_the_same_give_plain_gains() -> None:
    rows = [row | {"reply": "no", "score": 1.0} for row in points({0: 1, 2: 1}, kept=2)]
    result = study(rows, CountingJudge(), 50, seed=1)
    assert [(point.gold.value, point.proxy.value) for point in result.points] == [(0.0, 0.0), (0.0, 0.0)]


def test_the_picture_has_the_same_bytes_each_time_and_a_line_style_a_study() -> None:
    first, second = run({0: 1, 2: 2}, kept=2), run({0: 1, 2: 0}, kept=0)
    one, again = (draw_charts([study_chart(first)]) for _ in range(2))
    assert one == again
    assert draw_charts([study_chart(first, "a"), study_chart(second, "b")]) != one
    proxy, gold = study_chart(first, "a").lines
    assert (proxy.label, proxy.x, proxy.circled) == ("reward model, a", [0.0, 1.0], 1)
    assert gold.y == [0.0, 2.0]


@pytest.mark.parametrize("broken", ["no start", "other prompts", "nothing"])
def test_points_that_do_not_fit_together_are_refused(broken: str, tmp_path: Path) -> None:
    rows = points({0: 1, 2: 2}, kept=2)
    rows = {
        "no start": [row for row in rows if row["iteration"] != 0],
        "other prompts": [row for row in rows if row["iteration"] == 0 or row["prompt"] != 3],
        "nothing": [],
    }[broken]
    write_jsonl(tmp_path / FILE, rows)
    with pytest.raises(ValueError, match=r"evaluation_points\.jsonl must hold iteration 0 and the same prompts"):
        read_points(tmp_path / FILE)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"evaluation_points\.jsonl is missing"):
        read_points(tmp_path / FILE)
    write_jsonl(tmp_path / FILE, [{"iteration": 0}])
    with pytest.raises(ValueError, match="line 1 lacks prompt"):
        read_points(tmp_path / FILE)
