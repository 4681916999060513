"""Best of n under a judge with a known verdict."""

import pytest

from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.measures.best_of_n import BestOfN, Pool, best_of_n_metrics
from tests.evaluate.judging import PARAMS, CountingJudge
from tests.evaluate.measures.made_up import context
from tests.evaluate.measures.made_up import metrics as made_up

PROMPTS = [Prompt(f"c{i}", [{"role": "user", "content": "hi"}], [1], None) for i in range(2)]
# The reward model agrees with the judge on the first prompt, and is the reverse on the second.
POOL = Pool(
    texts=[["no", "lovely", "lovely lovely"], ["no", "lovely", "lovely lovely"]],
    scores=[[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]],
)


def test_one_reply_is_the_mean_of_the_pool() -> None:
    metrics = best_of_n_metrics(CountingJudge(), PROMPTS, POOL, 0.0, PARAMS)
    assert (metrics["best_of_n_n"], metrics["best_of_n_kl"]) == (1, 0.0)
    assert metrics["best_of_n_gold"] == pytest.approx(1.0)
    assert metrics["best_of_n_gold_difference"] == pytest.approx(0.0)
    assert metrics["best_of_n_reward"] == pytest.approx(1.0)


def test_the_largest_n_takes_what_the_reward_model_likes_most() -> None:
    metrics = best_of_n_metrics(CountingJudge(), PROMPTS, POOL, 9.0, PARAMS)
    assert metrics["best_of_n_n"] == 3
    assert metrics["best_of_n_kl"] == metrics["best_of_n_largest_kl"] == pytest.approx(0.4319, abs=1e-4)
    assert metrics["best_of_n_gold"] == pytest.approx(1.0)  # 2 and 0
    assert (metrics["best_of_n_gold_ci_low"], metrics["best_of_n_gold_ci_high"]) == (0.0, 2.0)
    assert metrics["best_of_n_gold_difference_ci_high"] == pytest.approx(1.0)
    assert metrics["best_of_n_reward"] == pytest.approx(2.0)
    assert metrics["best_of_n_num_prompts"] == 2


def test_it_says_when_the_pool_does_not_reach_as_far() -> None:
    (short,) = BestOfN(context()).shown(made_up()).sentences
    assert "best of 50 replies of the SFT model (KL 3.00, aligned 3.50, farther than the pool" in short
    (far,) = BestOfN(context()).shown(made_up(best_of_n_largest_kl=3.5)).sentences
    assert "farther" not in far
