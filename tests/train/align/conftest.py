"""The methods run on what PPO's tests run on."""

from tests.train.ppo.conftest import run_align

__all__ = ["run_align"]
