"""Gold figures under a judge with a known verdict."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.judging.word_judge import WordJudge
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.gold import (
    Absent,
    gold_metrics,
    human_metrics,
    load_gold_judge,
    load_model_judge,
    named_uncentred,
)
from groundup.evaluate.intervals import resamples, weighted_mean, with_judge_interval
from groundup.evaluate.replies import ModelReplies
from tests.evaluate.judging import GOLD_PARAMS, PARAMS, CountingJudge

PROMPTS = [Prompt(f"c{i}", [{"role": "user", "content": "hi"}], [1], None) for i in range(4)]


def replies(*texts: str) -> ModelReplies:
    return ModelReplies(
        texts=list(texts),
        tokens=[[1] * (1 + len(text.split())) for text in texts],
        ended=[True] * len(texts),
        rewards=[0.0] * len(texts),
        kl=[0.0] * len(texts),
    )


SFT = replies("no", "lovely", "no", "lovely lovely")


def test_figures_on_literal_replies() -> None:
    aligned = replies("lovely", "lovely", "lovely lovely", "no")
    metrics = gold_metrics(CountingJudge(), PROMPTS, SFT, aligned, PARAMS)
    assert metrics["gold_reward_before"] == 0.75
    assert metrics["gold_reward_after"] == 1.0
    assert metrics["gold_reward_difference"] == 0.25
    assert metrics["win_rate_vs_sft_gold"] == 0.625  # two wins, a tie, a loss
    assert 0 <= metrics["win_rate_vs_sft_gold_ci_low"] < 0.625 < metrics["win_rate_vs_sft_gold_ci_high"] <= 1
    assert (metrics["judge_agreement"], metrics["judge_agreement_ci_low"]) == (0.75, 0.625)
    assert (metrics["judge_num_pairs"], metrics["judge_num_conversations"]) == (200, 40)
    # Judges that agree add nothing to the interval.
    for end in ("_ci_low", "_ci_high"):
        assert metrics[f"win_rate_vs_sft_gold{end}"] == metrics[f"win_rate_vs_sft_gold_this_judge{end}"]


def test_equal_replies_tie() -> None:
    metrics = gold_metrics(CountingJudge(), PROMPTS, SFT, SFT, PARAMS)
    for name in ("win_rate_vs_sft_gold", "win_rate_vs_sft_gold_length_controlled"):
        assert [metrics[f"{name}{end}"] for end in ("", "_ci_low", "_ci_high")] == pytest.approx([0.5] * 3)
    assert metrics["gold_reward_difference_ci_high"] == 0.0


def test_judges_that_disagree_widen_the_interval() -> None:
    aligned = replies("lovely", "lovely lovely", "lovely", "lovely lovely lovely")  # one more each
    sure = gold_metrics(CountingJudge(), PROMPTS, SFT, aligned, PARAMS)
    assert (sure["gold_reward_difference_ci_low"], sure["gold_reward_difference_ci_high"]) == (1.0, 1.0)
    unsure = gold_metrics(CountingJudge((1.0, 2.0, -1.0)), PROMPTS, SFT, aligned, PARAMS)
    # The judges of two resamples give differences of 2 and -1: an error of sqrt(1.5 ** 2 + 1.5 ** 2).
    assert unsure["gold_reward_difference"] == 1.0
    assert unsure["gold_reward_difference_ci_low"] == pytest.approx(1.0 - 1.96 * 4.5**0.5)
    assert unsure["gold_reward_difference_ci_high"] == pytest.approx(1.0 + 1.96 * 4.5**0.5)
    assert unsure["win_rate_vs_sft_gold_this_judge_ci_low"] == 1.0
    assert unsure["win_rate_vs_sft_gold_ci_low"] < 0.5  # one of three judges sees the aligned model lose
    assert unsure["win_rate_vs_sft_gold_ci_high"] == 1.0


def test_people_are_scored_on_the_prompts_they_answered() -> None:
    answers = ("lovely", None, "lovely lovely", "no")
    prompts = [replace(prompt, human_reply=answer) for prompt, answer in zip(PROMPTS, answers, strict=True)]
    metrics = human_metrics(CountingJudge(), prompts, SFT, PARAMS)
    assert metrics["gold_reward_human"] == 1.0  # 1, 2 and 0
    assert metrics["win_rate_human_vs_sft_gold"] == pytest.approx(2 / 3)  # 0, 0 and 2 by SFT
    assert 0 <= metrics["win_rate_human_vs_sft_gold_ci_low"] < 2 / 3 < metrics["win_rate_human_vs_sft_gold_ci_high"]
    assert metrics["gold_reward_human_ci_low"] < 1.0 < metrics["gold_reward_human_ci_high"]
    assert metrics["num_human_replies"] == 3


def test_where_nobody_answered_there_is_no_mark() -> None:
    assert human_metrics(CountingJudge(), PROMPTS, SFT, PARAMS) == {}


def test_prompts_of_one_conversation_are_drawn_together() -> None:
    weights = resamples(["a", "b", "a", "c"], 50, seed=0)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    one = resamples(["a", "a"], 10, seed=0)
    interval = with_judge_interval("x", np.array([[1.0, 3.0]]), one, weighted_mean)
    assert interval == {"x": 2.0, "x_ci_low": 2.0, "x_ci_high": 2.0}


def test_a_split_that_cannot_judge_is_absent_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "conversations.jsonl"
    rows = [
        {"id": f"{i}", "messages": [*PROMPTS[0].messages, {"role": "assistant", "content": f"word{i % 7} by the sea"}]}
        for i in range(20)
    ]
    unanswered = [row | {"messages": PROMPTS[0].messages} for row in rows]
    for few, held in (([], 0), (rows[:5], 5), (unanswered, 0)):
        write_jsonl(path, few)
        absent = load_gold_judge(tmp_path, GOLD_PARAMS)
        assert isinstance(absent, Absent)
        assert (
            f"needs at least 20 replies to learn from (10 a fold), and its {len(few)} conversations hold {held}"
            in (absent.reason)
        )
    write_jsonl(path, rows)
    assert isinstance(load_gold_judge(tmp_path, GOLD_PARAMS), WordJudge)


def test_a_model_without_pairs_to_test_it_on_is_absent(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "conversations.jsonl", [{"id": "1", "messages": PROMPTS[0].messages}])
    unread: Any = None
    absent = load_model_judge(tmp_path, unread, PARAMS)
    assert absent == Absent("the judge split holds no reply of a person beside one from another conversation")


def test_a_damaged_split_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "conversations.jsonl", [{"id": "1"}])
    with pytest.raises(ValueError, match="line 1 lacks messages"):
        load_gold_judge(tmp_path, GOLD_PARAMS)


def test_an_uncentred_figure_has_its_ends_and_its_count_behind_its_name() -> None:
    figures = {"win_rate_a": 0.5, "win_rate_a_ci_low": 0.4, "win_rate_a_num_items": 9, "gold_reward_human": 1.0}
    assert named_uncentred(figures) == {
        "win_rate_a_uncentred": 0.5,
        "win_rate_a_uncentred_ci_low": 0.4,
        "win_rate_a_uncentred_num_items": 9,
    }
