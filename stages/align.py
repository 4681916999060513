"""SFT model + reward model + prompts -> aligned model"""

from typing import Any

from groundup.core.formats.needs import require_data
from groundup.runner.context import StageContext
from groundup.runner.stage import run_stage

HEADLINES = ("val_reward", "val_kl", "val_reply_length", "alarms", "monitor_agreement")


def main(stage: StageContext) -> dict[str, Any]:
    require_data("align", {"prompts": stage.dep("artifacts/data/prompts")})
    from groundup.align.align import align
    from groundup.core.rollout.servers import open_engine

    return align(
        sft=stage.dep("artifacts/sft"),
        reward=stage.dep("artifacts/reward"),
        prompts=stage.dep("artifacts/data/prompts"),
        monitor=stage.dep("artifacts/data/monitor"),
        out=stage.out("artifacts/aligned"),
        report=stage.out("artifacts/reports/align"),
        params=stage.params["align"],
        runtime=stage.params["runtime"],
        device=stage.device,
        checkpoints=stage.checkpoints,
        log=stage.log,
        engine=open_engine(stage.rollouts, stage.work / "rollouts", stage.timeout),
    )


if __name__ == "__main__":
    run_stage("align", main, HEADLINES)
