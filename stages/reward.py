"""SFT model + preference pairs -> reward model"""

from typing import Any

from groundup.core.formats.needs import require_data
from groundup.runner.context import StageContext
from groundup.runner.stage import run_stage

HEADLINES = (
    "val_accuracy",
    "val_sampled_accuracy",
    "val_relevance_accuracy",
    "val_relevance_moved_accuracy",
    "gates_passed",
)


def main(stage: StageContext) -> dict[str, Any]:
    require_data(
        "reward",
        {"preferences": stage.dep("artifacts/data/preferences"), "prompts": stage.dep("artifacts/data/prompts")},
    )
    from groundup.core.rollout.servers import open_engine
    from groundup.reward.reward import train_reward

    return train_reward(
        sft=stage.dep("artifacts/sft"),
        preferences=stage.dep("artifacts/data/preferences"),
        prompts=stage.dep("artifacts/data/prompts"),
        out=stage.out("artifacts/reward"),
        report=stage.out("artifacts/reports/reward"),
        params=stage.params["reward"],
        runtime=stage.params["runtime"],
        device=stage.device,
        checkpoints=stage.checkpoints,
        log=stage.log,
        engine=open_engine(stage.rollouts, stage.work / "rollouts", stage.timeout),
    )


if __name__ == "__main__":
    run_stage("reward", main, HEADLINES)
