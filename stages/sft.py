"""base model + chats -> SFT model"""

from typing import Any

from groundup.core.formats.needs import require_data
from groundup.runner.context import StageContext
from groundup.runner.stage import run_stage

HEADLINES = ("val_loss", "val_loss_before", "num_trained_tokens")


def main(stage: StageContext) -> dict[str, Any]:
    require_data("sft", {"chats": stage.dep("artifacts/data/chats")})
    from groundup.sft.sft import train_sft

    return train_sft(
        base=stage.dep("artifacts/base"),
        chats=stage.dep("artifacts/data/chats"),
        out=stage.out("artifacts/sft"),
        report=stage.out("artifacts/reports/sft"),
        params=stage.params["sft"],
        runtime=stage.params["runtime"],
        device=stage.device,
        checkpoints=stage.checkpoints,
        log=stage.log,
    )


if __name__ == "__main__":
    run_stage("sft", main, HEADLINES)
