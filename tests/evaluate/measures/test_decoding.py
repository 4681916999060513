"""The table of decoding methods: paired differences; times stay out of the report."""

import json
from pathlib import Path
from typing import Any

import pytest

from groundup.core.decoding import METHODS
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.gold import Absent
from groundup.evaluate.measures.decoding import (
    COLUMNS,
    DecodingMethods,
    decoding_hint,
    decoding_metrics,
    decoding_rows,
    decoding_sentences,
)
from tests.evaluate.judging import PARAMS, CountingJudge
from tests.evaluate.measures.decoded import decoded, decoding_figures, interval
from tests.evaluate.measures.made_up import context

PROMPTS = [Prompt(f"c{i}", [{"role": "user", "content": "Hi"}], [1, 2], None) for i in range(3)]


def measured(judge: Any = CountingJudge(), **changes: Any) -> dict[str, float]:  # noqa: B008  frozen
    replies = {method: decoded(num_replies=3) for method in METHODS} | changes
    return decoding_metrics(judge, PROMPTS, replies, PARAMS)


def test_figures_are_means_and_paired_differences() -> None:
    metrics = measured(
        beam=decoded(log_prob=-8.0, num_replies=3),
        tree=decoded(reward=0.5, num_replies=3),
        sample=decoded(num_replies=3, text="lovely lovely"),
    )
    assert metrics["decoding_num_prompts"] == 3
    assert metrics["decoding_greedy_log_prob"] == -11.0
    assert metrics["decoding_beam_log_prob"] == -9.0
    # Every prompt differs by the same amount, so the interval of the difference is a point though both are wide.
    assert [metrics[f"decoding_beam_log_prob_over_greedy{end}"] for end in ("", "_ci_low", "_ci_high")] == [2.0] * 3
    assert [metrics[f"decoding_tree_reward_over_best_of_n{end}"] for end in ("", "_ci_low", "_ci_high")] == [0.5] * 3
    assert metrics["decoding_tree_reward_ci_low"] < 1.5 < metrics["decoding_tree_reward_ci_high"]
    assert metrics["decoding_beam_at_least_greedy"] == 1.0
    assert (metrics["decoding_sample_gold"], metrics["decoding_greedy_gold"]) == (2.0, 0.0)
    assert (metrics["decoding_tree_tokens"], metrics["decoding_tree_reply_length"]) == (20.0, 4.0)
    assert metrics["decoding_tree_seconds"] == 0.2  # the median


def test_a_beam_that_finds_less_is_counted() -> None:
    worse = decoded(num_replies=3)
    worse["log_probs"][1] = -99.0
    assert measured(beam=worse)["decoding_beam_at_least_greedy"] == pytest.approx(2 / 3)


def test_without_a_judge_there_is_no_gold_score() -> None:
    metrics = measured(judge=Absent("too few"))
    assert not [name for name in metrics if "gold" in name]
    assert [row.cells[1].value for row in decoding_rows(metrics)] == [""] * 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Beam search finds a reply at least as likely as greedy's on all 12 prompts: its mean log-probability"),
        (
            {"decoding_beam_at_least_greedy": 0.75},
            "Beam search does not find a reply as likely as greedy's on 25\u00a0% of 12 prompts",
        ),
        ({}, "tree of thoughts finds replies of a higher reward than best of n: 1.00 against 0.75, difference 0.12 ("),
        (
            interval("decoding_tree_reward_over_best_of_n", 0.125, -0.5, 0.5),
            "cannot be told apart in reward from best of n",
        ),
        (
            interval("decoding_tree_reward_over_best_of_n", -0.5, -0.75, -0.25),
            "finds replies of a lower reward than best of n: 1.00 against 0.75, difference -0.50 (-0.75 to -0.25)",
        ),
    ],
)
def test_both_claims_are_said_either_way(changes: dict[str, float], said: str) -> None:
    assert sum(said in sentence for sentence in decoding_sentences(decoding_figures() | changes)) == 1


def test_a_row_a_method_and_no_clock(tmp_path: Path) -> None:
    metrics = decoding_figures()
    rows = decoding_rows(metrics)
    assert [row.label for row in rows] == ["Greedy", "Sampling", "Beam search", "Best of n", "Tree of thoughts"]
    assert all(len(row.cells) == len(COLUMNS) - 1 for row in rows)
    assert [cell.value for cell in rows[3].cells] == ["0.75", "1.50", "-17.00", "200", "12.2"]
    assert rows[3].cells[0].interval == "0.25 to 1.25"
    measure = DecodingMethods(context(prompts=PROMPTS[:1], out=tmp_path))
    measure.decoded = {method: decoded() for method in METHODS}
    measure.publish(metrics)
    text = (tmp_path / "decoding.jsonl").read_text(encoding="utf-8")
    assert json.loads(text)["replies"]["tree"] == {"text": "<b>yes</b>", "ended": True, "reward": 0.0}
    for shown in (text, repr(rows), *decoding_sentences(metrics), decoding_hint(metrics, PARAMS.decoding)):
        assert "77.25" not in shown
