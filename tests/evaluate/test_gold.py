"""Gold figures under a judge whose verdict is known."""

from pathlib import Path

import numpy as np
import pytest

from groundup.data.jsonl import write_jsonl
from groundup.evaluate.gold import Absent, gold_metrics, judged, load_gold_judge, resamples, weighted_mean
from groundup.evaluate.replies import ModelReplies, Prompt
from groundup.judge import Judge
from tests.evaluate.judging import GOLD_PARAMS, PARAMS, CountingJudge

PROMPTS = [Prompt(f"c{i}", [{"role": "user", "content": "hi"}], [1]) for i in range(4)]


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
    assert (metrics["judge_agreement"], metrics["judge_agreement_ci_low"]) == (0.25, 0.125)
    assert (metrics["judge_length_agreement"], metrics["judge_num_conversations"]) == (0.5, 40)
    # Judges that agree with each other add nothing to the interval.
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
    # The parts give differences of 2 and -1: an error of sqrt((2 - 1) * 1.5 ** 2).
    assert unsure["gold_reward_difference"] == 1.0
    assert unsure["gold_reward_difference_ci_low"] == pytest.approx(1.0 - 1.96 * 1.5)
    assert unsure["gold_reward_difference_ci_high"] == pytest.approx(1.0 + 1.96 * 1.5)
    assert unsure["win_rate_vs_sft_gold_this_judge_ci_low"] == 1.0
    assert unsure["win_rate_vs_sft_gold_ci_low"] < 0.5  # one of three judges sees the aligned model lose
    assert unsure["win_rate_vs_sft_gold_ci_high"] == 1.0


def test_prompts_of_one_conversation_are_drawn_together() -> None:
    weights = resamples(["a", "b", "a", "c"], 50, seed=0)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    one = resamples(["a", "a"], 10, seed=0)
    interval = judged("x", np.array([[1.0, 3.0]]), one, weighted_mean)
    assert interval == {"x": 2.0, "x_ci_low": 2.0, "x_ci_high": 2.0}


def test_a_split_that_cannot_judge_is_absent_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "conversations.jsonl"
    row = {"id": "1", "rating": 5.0, "messages": PROMPTS[0].messages}
    for rows, reason in (
        ([], "no rated conversations"),
        ([row | {"rating": None}], "no rated conversations"),
        ([row], "needs at least 8 rated conversations"),
        ([row] * 20, "ratings that are all 5.0"),
    ):
        write_jsonl(path, rows)
        absent = load_gold_judge(tmp_path, GOLD_PARAMS)
        assert isinstance(absent, Absent)
        assert reason in absent.reason
    write_jsonl(path, [row | {"rating": float(i % 3)} for i in range(20)])
    assert isinstance(load_gold_judge(tmp_path, GOLD_PARAMS), Judge)


def test_a_damaged_split_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "conversations.jsonl", [{"rating": 5.0}])
    with pytest.raises(ValueError, match="line 1 lacks messages"):
        load_gold_judge(tmp_path, GOLD_PARAMS)
