"""Rewards shuffled within their batch teach nothing; true ones do."""

from statistics import fmean
from typing import Any

import pytest
import torch

from bench.compare_alignment.control import ShuffledRewards
from groundup.align.rollout import RolloutWorker
from groundup.core.rollout.answers import Answers
from tests.align.conftest import AlignRun, Recorder, run_align

__all__ = ["run_align"]

LEARNING: dict[str, Any] = {
    "num_iterations": 12,
    "minibatch_size": 32,
    "forward_batch_size": 32,
    "rollout": {"batch_size": 64},
    "budgets": {"kl": 50.0},
    "validation": {"every": 12},
    "ppo": {"learning_rate": 3e-3},
}


@pytest.mark.parametrize(("worker_type", "least", "most"), [(RolloutWorker, 1.5, 3.5), (ShuffledRewards, -0.25, 0.25)])
def test_only_rewards_of_their_own_replies_raise_the_reward(
    run_align: AlignRun, worker_type: type[RolloutWorker], least: float, most: float
) -> None:
    curve = Recorder()
    run_align("run", curve, worker_type=worker_type, **LEARNING)
    rewards = [curve.points[i]["reward"] for i in range(1, 13)]
    assert least < fmean(rewards[-4:]) - fmean(rewards[:4]) < most
    assert curve.points[12]["val_kl"] > 1.0  # both policies have moved


def test_a_batch_has_its_own_rewards_in_another_order_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = ShuffledRewards.__new__(ShuffledRewards)
    monkeypatch.setattr(RolloutWorker, "rewards", lambda worker, answers, reference_length: answers.scores)
    scores = torch.arange(32.0)
    answers = Answers([[i] for i in range(32)], [True] * 32, scores, scores, scores)
    shuffled = worker.rewards(answers, 1.0)
    assert sorted(shuffled.tolist()) == scores.tolist()
    assert (shuffled == scores).sum() < 6  # 1 is expected
    assert torch.equal(worker.rewards(answers, 1.0), shuffled)
