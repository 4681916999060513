"""Trains reward models and policies into a work folder that a second run continues from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare_alignment.control import ShuffledRewards
from bench.compare_alignment.page import METHODS, SHUFFLED
from bench.finish import RESULT, check_setting, finish
from groundup.align.align import align
from groundup.align.rollout import RolloutWorker
from groundup.reward.reward import train_reward
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.files import file_digests
from groundup.runner.params import Params


@dataclass(frozen=True)
class Cells:
    artifacts: Path  # of the default run: sft and data are read
    work: Path
    params: Params
    num_seeds: int
    device: str

    @property
    def seeds(self) -> range:
        """0 is the seed of params.yaml, for reward model and policy alike."""
        return range(self.num_seeds)

    def check_setting(self) -> None:
        setting = {
            "reward": self.params.reward.model_dump(mode="json"),
            "align": self.params.align.model_dump(mode="json"),
            "runtime": self.params.runtime.model_dump(mode="json"),
            "sft": file_digests(self.artifacts / "sft"),
        }
        check_setting(self.work, setting)

    def reward(self, seed: int) -> Path:
        return self.work / f"reward-{seed}"

    def policy(self, method: str, seed: int) -> Path:
        return self.work / f"{method}-{seed}"

    def train_reward_model(self, seed: int) -> dict[str, Any]:
        folder = self.reward(seed)

        def compute(checkpoints: Checkpoints) -> dict[str, Any]:
            params = self.params.reward
            return train_reward(
                sft=self.artifacts / "sft",
                preferences=self.artifacts / "data/preferences",
                prompts=self.artifacts / "data/prompts",
                out=folder / "out",
                report=folder / "report",
                params=params.model_copy(update={"seed": params.seed + seed}),
                runtime=self.params.runtime,
                device=self.device,
                checkpoints=checkpoints,
                log=_ignore,
            )

        return finish(folder, compute)

    def train_policy(self, method: str, seed: int) -> dict[str, Any]:
        """Against the reward model of the same seed, which is trained first if it is not there."""
        self.train_reward_model(seed)
        folder = self.policy(method, seed)

        def compute(checkpoints: Checkpoints) -> dict[str, Any]:
            params, is_control = self.params.align, method == SHUFFLED
            return align(
                sft=self.artifacts / "sft",
                reward=self.reward(seed) / "out",
                prompts=self.artifacts / "data/prompts",
                monitor=self.artifacts / "data/monitor",
                out=folder / "out",
                report=folder / "report",
                params=params.model_copy(
                    update={"method": "ppo" if is_control else method, "seed": params.seed + seed}
                ),
                runtime=self.params.runtime,
                device=self.device,
                checkpoints=checkpoints,
                log=_ignore,
                worker_type=ShuffledRewards if is_control else RolloutWorker,
            )

        return finish(folder, compute)

    def unfinished(self) -> list[str]:
        folders = [self.policy(method, seed) for method in METHODS for seed in self.seeds]
        return [folder.name for folder in folders if not (folder / RESULT).exists()]


def _ignore(step: int, **values: float) -> None:
    """The curve of a cell: its evaluation points say more."""
