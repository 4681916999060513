"""shards -> base model"""

from typing import Any

from groundup.core.formats.needs import require_data
from groundup.runner.context import StageContext
from groundup.runner.stage import run_stage

HEADLINES = ("val_bits_per_byte", "num_parameters", "num_tokens")


def main(stage: StageContext) -> dict[str, Any]:
    require_data("pretrain", {"text": stage.dep("artifacts/data/text")})
    from groundup.pretrain.pretrain import pretrain

    return pretrain(
        tokenizer=stage.dep("artifacts/tokenizer"),
        shards=stage.dep("artifacts/shards"),
        text=stage.dep("artifacts/data/text"),
        out=stage.out("artifacts/base"),
        report=stage.out("artifacts/reports/pretrain"),
        model_params=stage.params["model"],
        params=stage.params["pretrain"],
        runtime=stage.params["runtime"],
        device=stage.device,
        checkpoints=stage.checkpoints,
        log=stage.log,
        base=stage.base(),
        locked=stage.locked_base(),
        strategy=stage.strategy,
    )


if __name__ == "__main__":
    run_stage("pretrain", main, HEADLINES)
