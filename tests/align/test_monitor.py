"""The monitor judge: uses what it has learned, knows its uncertainty, and may be absent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.align.monitor import load_monitor, score_change
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.judging.statistics import clustered_mean
from groundup.core.judging.word_judge import WordJudge
from tests.align.conftest import MONITOR_ROWS, QUESTIONS, align_params

PARAMS = align_params().monitor_judge
CLUSTERS = [f"c{i}" for i in range(5)]


def chats(reply: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": q}, {"role": "assistant", "content": reply}] for q in QUESTIONS]


def change(rows: list[dict[str, Any]], before: str, after: str) -> tuple[float, float]:
    monitor = WordJudge.fit(rows, PARAMS)
    return score_change(monitor.score_by_resample(chats(before)), monitor.score_by_resample(chats(after)), CLUSTERS)


def test_a_change_it_was_taught_to_see_is_many_standard_errors() -> None:
    mean, error = change(MONITOR_ROWS, "The sea is old.", "The street is old.")
    assert mean < -4 * error < 0


def test_the_same_replies_are_no_change() -> None:
    assert change(MONITOR_ROWS, "The sea is old.", "The sea is old.") == (0.0, 0.0)


def test_a_judge_of_random_replies_is_seldom_sure() -> None:
    """If one phrase replaces another everywhere, the error over prompts alone would often call the change certain."""
    num_sure = num_sure_by_prompts = 0
    replies = [row["messages"][1] for row in MONITOR_ROWS]
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(replies))
        rows = [
            row | {"messages": [row["messages"][0], replies[i]]} for row, i in zip(MONITOR_ROWS, order, strict=True)
        ]
        monitor = WordJudge.fit(rows, PARAMS)
        before, after = (
            monitor.score_by_resample(chats(reply)) for reply in ("The sea is old.", "The street is old.")
        )
        mean, error = score_change(before, after, CLUSTERS)
        num_sure += abs(mean) > 2 * error
        num_sure_by_prompts += abs(mean) > 2 * clustered_mean((after - before)[0].tolist(), CLUSTERS)[1]
    assert num_sure <= 2
    assert num_sure_by_prompts >= 6


def test_standard_error_by_hand() -> None:
    before = np.zeros((11, 2))
    after = np.array([[1.0, 3.0], *([[2.0, 2.0]] * 5), *([[1.0, 1.0]] * 5)])
    mean, error = score_change(before, after, ["a", "b"])
    assert mean == 2.0
    # Over prompts: 1; over judges: ten means 0.5 away from theirs, 10 x 0.25 / 9.
    assert error == pytest.approx((1 + 2.5 / 9) ** 0.5)


def test_with_too_few_replies_there_is_none_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for rows, held in (([], 0), (MONITOR_ROWS[:5], 5)):
        caplog.clear()
        write_jsonl(tmp_path / "conversations.jsonl", rows)
        assert load_monitor(tmp_path, PARAMS) is None
        assert "so over-optimization will not be detected" in caplog.text
        assert f"its {held} conversations hold {held}" in caplog.text


def test_a_damaged_file_is_no_missing_judge(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "conversations.jsonl", [{"messages": []}])
    with pytest.raises(ValueError, match="lacks id"):
        load_monitor(tmp_path, PARAMS)
