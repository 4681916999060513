"""The terms of PPO's arithmetic."""

import pytest

from groundup.core.training.cost import read_cost
from tests.align.conftest import AlignRun, Recorder, align_params


@pytest.mark.parametrize(("value_trunk", "num_models"), [("separate", 2), ("shared", 1)])
def test_tokens_are_counted_for_every_model(run_align: AlignRun, value_trunk: str, num_models: int) -> None:
    """Sampled, scored, compared with the reference, read for values; learned by policy and value model."""
    curve, params = Recorder(), align_params()
    metrics = run_align("run", curve, ppo={"value_trunk": value_trunk})
    cost = read_cost(run_align.root / "run/report")
    assert cost is not None
    tokens = cost.num_read_tokens / (2 + num_models)
    assert cost.num_learned_tokens == tokens * num_models * params.num_epochs
    replies = sum(row["reply_length"] for row in curve.points.values() if "reply_length" in row)
    assert tokens > params.rollout.batch_size * replies  # prompts too
    assert metrics["flops"] == cost.flops
