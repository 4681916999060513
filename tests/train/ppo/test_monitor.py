"""The monitor judge: sees what it was taught, knows how little it knows, may be missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.data.jsonl import write_jsonl
from groundup.judge import Judge
from groundup.statistics import clustered_mean
from groundup.train.ppo.monitor import load_monitor, rating_change
from tests.train.ppo.conftest import MONITOR_ROWS, QUESTIONS, align_params

PARAMS = align_params().monitor_judge
CLUSTERS = [f"c{i}" for i in range(5)]


def chats(reply: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": q}, {"role": "assistant", "content": reply}] for q in QUESTIONS]


def change(rows: list[dict[str, Any]], before: str, after: str) -> tuple[float, float]:
    monitor = Judge.fit(rows, PARAMS)
    return rating_change(monitor.score_by_part(chats(before)), monitor.score_by_part(chats(after)), CLUSTERS)


def test_a_change_it_was_taught_to_see_is_many_standard_errors() -> None:
    mean, error = change(MONITOR_ROWS, "The sea is old.", "The town is old.")
    assert mean < -5 * error < 0


def test_the_same_replies_are_no_change() -> None:
    assert change(MONITOR_ROWS, "The sea is old.", "The sea is old.") == (0.0, 0.0)


def test_a_judge_of_random_ratings_is_seldom_sure() -> None:
    """Where one phrase replaces another everywhere, prompts alone would call every change certain."""
    num_sure = num_sure_by_prompts = 0
    for seed in range(20):
        ratings = np.random.default_rng(seed).normal(size=len(MONITOR_ROWS))
        rows = [row | {"rating": float(rating)} for row, rating in zip(MONITOR_ROWS, ratings, strict=True)]
        monitor = Judge.fit(rows, PARAMS)
        before, after = (monitor.score_by_part(chats(reply)) for reply in ("The sea is old.", "The town is old."))
        mean, error = rating_change(before, after, CLUSTERS)
        num_sure += abs(mean) > 2 * error
        num_sure_by_prompts += abs(mean) > 2 * clustered_mean((after - before)[0].tolist(), CLUSTERS)[1]
    assert num_sure <= 5
    assert num_sure_by_prompts >= 15


def test_standard_error_by_hand() -> None:
    before = np.zeros((11, 2))
    after = np.array([[1.0, 3.0], *([[2.0, 2.0]] * 5), *([[1.0, 1.0]] * 5)])
    mean, error = rating_change(before, after, ["a", "b"])
    assert mean == 2.0
    # Over prompts: 1; over judges: ten means 0.5 away from theirs, 9 x 0.25.
    assert error == pytest.approx((1 + 2.25) ** 0.5)


@pytest.mark.parametrize("rows", [[], [{"messages": [], "rating": None}]])
def test_without_ratings_there_is_none_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: list[dict[str, Any]]
) -> None:
    write_jsonl(tmp_path / "conversations.jsonl", rows)
    assert load_monitor(tmp_path, PARAMS) is None
    assert "over-optimisation will go unnoticed" in caplog.text


def test_with_too_few_ratings_there_is_none_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_jsonl(tmp_path / "conversations.jsonl", MONITOR_ROWS[:5])
    assert load_monitor(tmp_path, PARAMS) is None
    assert "at least 20 rated conversations" in caplog.text


def test_conversations_that_nobody_rated_are_passed_over(tmp_path: Path) -> None:
    unrated = [row | {"rating": None} for row in MONITOR_ROWS[:7]]
    write_jsonl(tmp_path / "conversations.jsonl", [*MONITOR_ROWS, *unrated])
    monitor = load_monitor(tmp_path, PARAMS)
    assert monitor is not None
    assert monitor.agreement.num_conversations == len(MONITOR_ROWS)


def test_a_damaged_file_is_no_missing_judge(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "conversations.jsonl", [{"messages": []}])
    with pytest.raises(ValueError, match="lacks rating"):
        load_monitor(tmp_path, PARAMS)
