"""Alignment on replies of a server: the same training as on those that are drawn here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundup.core.rollout.servers import RolloutError, Servers
from tests.align.conftest import LORA, AlignRun, Recorder, without_clock
from tests.rollout_server import ByPlace, FakeVllm, serving

METHODS = {
    "ppo": {},
    "ppo-lora": {"lora": LORA},
    "grpo": {"method": "grpo", "lora": LORA},
    "rloo": {"method": "rloo"},
    "dpo": {"method": "dpo", "lora": LORA},
}
FIGURES = {"generation_kl", "clamped_share"}


def close(found: dict[str, float], expected: dict[str, float]) -> bool:
    """To rounding, which optimizer steps make larger."""
    return found == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("changes", METHODS.values(), ids=METHODS.keys())
def test_the_curve_is_that_of_replies_drawn_here(run_align: AlignRun, tmp_path: Path, changes: dict[str, Any]) -> None:
    here, there = Recorder(), Recorder()
    expected = run_align("here", here, engine=ByPlace(), **changes)
    fake = FakeVllm(tmp_path / "sft")
    with serving(fake) as url:
        found = run_align("there", there, engine=Servers([url], tmp_path / "weights", 20.0), **changes)
    assert here.points.keys() == there.points.keys()
    num_iterations = 0 if changes.get("method") == "dpo" else 4  # whose replies are drawn before
    assert sum(values.keys() >= FIGURES for values in there.points.values()) == num_iterations
    for step, values in there.points.items():
        assert all(abs(values.pop(name)) < 1e-3 for name in FIGURES & values.keys())
        assert close(values, here.points[step])
    numbers = {name: value for name, value in without_clock(expected).items() if isinstance(value, float)}
    assert close({name: found[name] for name in numbers}, numbers)
    assert len({request["model"] for request in fake.requests}) > 1 or fake.calls.count("/collective_rpc") > 2
    assert len(fake.requests) > 30


def test_the_loss_of_a_token_counts_as_its_ratio(run_align: AlignRun, tmp_path: Path) -> None:
    """Drawn a third too seldom, a token counts half as much again."""

    class Skewed(ByPlace):
        def generate(self, *arguments: Any) -> Any:
            drawn = super().generate(*arguments)
            return replace(drawn, ratios=[[1.5] * len(reply) for reply in drawn.tokens])

    plain, weighted = Recorder(), Recorder()
    run_align("plain", plain, engine=ByPlace(), num_iterations=1)
    run_align("weighted", weighted, engine=Skewed(), num_iterations=1)
    assert weighted.points[1]["policy_loss"] == pytest.approx(1.5 * plain.points[1]["policy_loss"], rel=0.2)


def test_a_killed_server_costs_nothing_that_was_done(run_align: AlignRun, tmp_path: Path) -> None:
    whole = Recorder()
    expected = run_align("whole", whole, engine=ByPlace())
    fake = FakeVllm(tmp_path / "sft")
    broken = Recorder()
    with serving(fake) as url:
        engine = Servers([url], tmp_path / "weights", 20.0)
        fake.fails_after = 45
        with pytest.raises(RolloutError, match="the stage then goes on from its last checkpoint"):
            run_align("broken", broken, engine=engine)
    done = max(broken.points)
    assert 0 < done < 4
    fake = FakeVllm(tmp_path / "sft")  # with nothing that was pushed before
    with serving(fake) as url:
        found = run_align("broken", broken, engine=Servers([url], tmp_path / "weights", 20.0))
    assert len(fake.requests) < 60  # of 88
    numbers = {name: value for name, value in without_clock(expected).items() if isinstance(value, float)}
    assert close({name: found[name] for name in numbers}, numbers)
