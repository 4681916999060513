"""Games under a judge with a known verdict: more `lovely` is better."""

from typing import Any

import numpy as np
import pytest

from groundup.core.judging.judge import judge_error
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.gold import gold_metrics
from groundup.evaluate.pairwise.bradley_terry import ELO
from groundup.evaluate.pairwise.games import Games, PromptSet, ratings, win_rates
from groundup.evaluate.pairwise.tournament import against, gold_standings, make_entrants
from groundup.evaluate.replies import ModelReplies
from tests.evaluate.judging import PARAMS, CountingJudge

NUM_PROMPTS = 30
PROMPTS = [
    Prompt(f"c{i // 2}", [{"role": "user", "content": f"hi {i}"}], [1], "lovely lovely" if i % 3 else None)
    for i in range(NUM_PROMPTS)
]


def replies(often: int) -> ModelReplies:
    """`lovely` in all replies but every n-th."""
    texts = ["lovely" if i % often else "no" for i in range(NUM_PROMPTS)]
    return ModelReplies(
        texts=texts,
        tokens=[[1] * (1 + i % 2) for i in range(NUM_PROMPTS)],
        ended=[True] * NUM_PROMPTS,
        rewards=[0.0] * NUM_PROMPTS,
        kl=[0.0] * NUM_PROMPTS,
    )


MODELS = {"base": replies(2), "sft": replies(3), "aligned": replies(10)}


def points() -> list[dict[str, Any]]:
    """Iteration 4 is kept; the policy gets worse after it."""
    good = {0: 3, 2: 5, 4: 10, 6: 2}
    return [
        {
            "iteration": iteration,
            "prompt": prompt,
            "conversation_id": f"v{prompt}",
            "messages": [{"role": "user", "content": f"hello {prompt}"}],
            "reply": "lovely" if prompt % good[iteration] else "no",
            "kept": iteration == 4,
        }
        for iteration in good
        for prompt in reversed(range(12))
    ]


ENTRANTS = make_entrants(PROMPTS, MODELS, points())


def test_the_same_player_under_one_name() -> None:
    assert list(ENTRANTS.test.replies) == ["base", "sft", "aligned", "human"]
    assert list(ENTRANTS.validation.replies) == ["sft", "iteration_2", "aligned", "iteration_6"]
    assert ENTRANTS.validation.conversation_ids == [f"v{i}" for i in range(12)]
    assert ENTRANTS.validation.replies["sft"][:4] == ["no", "lovely", "lovely", "no"]
    assert ENTRANTS.num_tokens["aligned"][:2] == [1, 2]


def test_training_that_kept_its_start_has_the_sft_model_alone_there() -> None:
    rows = [row | {"kept": row["iteration"] == 0} for row in points()]
    entrants = make_entrants(PROMPTS, MODELS, rows)
    assert list(entrants.validation.replies) == ["sft", "iteration_2", "iteration_4", "iteration_6"]


def test_ratings_follow_the_judge() -> None:
    standings = gold_standings(CountingJudge(), ENTRANTS, PARAMS)
    order = [rating.player for rating in standings.ratings]
    assert order == ["human", "aligned", "iteration_2", "sft", "base", "iteration_6"] or order == [
        "human", "aligned", "iteration_2", "sft", "iteration_6", "base",
    ]  # fmt: skip
    by_player = {rating.player: rating for rating in standings.ratings}
    assert (by_player["sft"].rating, by_player["sft"].ci_low, by_player["sft"].ci_high) == (1000.0, 1000.0, 1000.0)
    assert by_player["human"].num_games == 3 * 20  # people answered two of three prompts
    assert by_player["sft"].num_games == 2 * NUM_PROMPTS + 20 + 3 * 12
    for rating in standings.ratings:
        assert rating.ci_low <= rating.rating <= rating.ci_high
    assert standings.metrics["rating_aligned_gold"] == by_player["aligned"].rating
    assert standings.metrics["rating_human_gold_ci_high"] == by_player["human"].ci_high


def test_the_base_model_is_judged_as_the_sft_model_is() -> None:
    metrics = gold_standings(CountingJudge(), ENTRANTS, PARAMS).metrics
    assert metrics["win_rate_vs_base_gold"] == pytest.approx(0.5 + 0.5 * (12 / 30))  # 12 prompts won, 18 ties
    assert metrics["win_rate_base_vs_sft_gold"] == pytest.approx(0.5 + 0.5 * (5 - 10) / 30)  # 5 won, 10 lost
    assert metrics["gold_reward_base"] == 0.5
    mirrored = gold_metrics(CountingJudge(), PROMPTS, MODELS["sft"], MODELS["base"], PARAMS)
    for end in ("", "_ci_low", "_ci_high"):
        assert metrics[f"win_rate_base_vs_sft_gold{end}"] == pytest.approx(mirrored[f"win_rate_vs_sft_gold{end}"])
        assert metrics[f"gold_reward_base{end}"] == pytest.approx(mirrored[f"gold_reward_after{end}"])
    swapped = gold_metrics(CountingJudge(), PROMPTS, MODELS["base"], MODELS["aligned"], PARAMS)
    for end in ("", "_ci_low", "_ci_high", "_length_controlled"):
        assert metrics[f"win_rate_vs_base_gold{end}"] == pytest.approx(swapped[f"win_rate_vs_sft_gold{end}"])


def test_sides_do_not_matter() -> None:
    prompts = ENTRANTS.test
    outcomes = np.tile([1.0, 0.5, 0.0, 1.0, 1.0], 6)[None]
    forth = Games(prompts, "aligned", "sft", outcomes)
    back = Games(prompts, "sft", "aligned", 1 - outcomes)
    longer = np.arange(NUM_PROMPTS) % 3 - 1.0
    one = win_rates("x", forth, longer, 200, 0)
    other = win_rates("x", against([back], "aligned", "sft"), longer, 200, 0)
    assert one == pytest.approx(other)
    mirrored = win_rates("x", back, -longer, 200, 0)
    assert mirrored["x_length_controlled"] == pytest.approx(1 - one["x_length_controlled"], abs=1e-6)
    assert ratings([forth], 50, 0)[0].rating == pytest.approx(ratings([back], 50, 0)[0].rating)


def test_what_was_not_played_does_not_count() -> None:
    prompts = PromptSet("test", [f"c{i}" for i in range(4)], [[]] * 4, {})
    outcomes = np.array([[1.0, np.nan, 0.0, np.nan]])
    assert win_rates("x", Games(prompts, "a", "sft", outcomes), np.zeros(4), 100, 0)["x"] == 0.5
    found = {rating.player: rating for rating in ratings([Games(prompts, "a", "sft", outcomes)], 100, 0)}
    assert found["a"].rating == pytest.approx(1000)
    assert found["a"].num_games == 2


def test_the_interval_of_a_rating_holds_what_other_judges_would_say() -> None:
    prompts = PromptSet("test", [f"c{i}" for i in range(100)], [[]] * 100, {})
    outcomes = np.stack([np.full(100, 0.5), np.arange(100) % 4 > 0, np.arange(100) % 4 == 0]).astype(np.float64)
    found = {rating.player: rating for rating in ratings([Games(prompts, "a", "sft", outcomes)], 50, 0)}
    # Every resample is a tie; the two other judges give odds of three to one and of one to three.
    apart = ELO * np.log(3)
    reach = 1.96 * judge_error(np.array([apart, -apart]))
    assert found["a"].rating == pytest.approx(1000)
    assert found["a"].ci_high == pytest.approx(1000 + reach, rel=1e-3)
    assert found["a"].ci_low == pytest.approx(1000 - reach, rel=1e-3)


def test_judges_that_disagree_widen_the_interval() -> None:
    sure = gold_standings(CountingJudge(), ENTRANTS, PARAMS)
    unsure = gold_standings(CountingJudge((1.0, 2.0, -1.0)), ENTRANTS, PARAMS)
    assert unsure.metrics["rating_aligned_gold"] == sure.metrics["rating_aligned_gold"]
    assert unsure.metrics["rating_aligned_gold_ci_low"] < 1000 < sure.metrics["rating_aligned_gold_ci_low"]


def test_prompts_of_a_conversation_are_drawn_together() -> None:
    outcomes = np.tile([1.0, 1.0, 0.0, 0.0], 10)[None]
    alone = Games(PromptSet("test", [f"c{i}" for i in range(40)], [[]] * 40, {}), "a", "sft", outcomes)
    paired = Games(PromptSet("test", [f"c{i // 2}" for i in range(40)], [[]] * 40, {}), "a", "sft", outcomes)
    narrow, wide = (next(r for r in ratings([games], 500, 0) if r.player == "a") for games in (alone, paired))
    assert wide.ci_high - wide.ci_low > 1.2 * (narrow.ci_high - narrow.ci_low)
