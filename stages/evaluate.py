"""base, SFT, reward and aligned models -> figures, replies and gates"""

import logging
from typing import Any

from groundup.core.formats.needs import require_data
from groundup.runner.context import StageContext
from groundup.runner.stage import run_stage

# All other figures come from the test split, the verdict of the gates too: in a table of experiments they would guide
# choices. They are in the report, and the verdict is in the registry.
HEADLINES = ("val_win_rate_vs_sft_gold", "judge_agreement", "num_prompts", "num_documents")
DATA = ("text", "chats", "preferences", "prompts", "evaluation", "judge")


def main(stage: StageContext) -> dict[str, Any]:
    data = {name: stage.dep(f"artifacts/data/{name}") for name in DATA}
    require_data("evaluate", data)
    from groundup.core.rollout.servers import open_engine
    from groundup.evaluate.evaluate import evaluate
    from groundup.evaluate.measures.measure import Data

    params = stage.params["evaluate"]
    return evaluate(
        base=stage.dep("artifacts/base"),
        sft=stage.dep("artifacts/sft"),
        reward=stage.dep("artifacts/reward"),
        aligned=stage.dep("artifacts/aligned"),
        data=Data(shards=stage.dep("artifacts/shards"), **data),
        points=stage.dep("artifacts/reports/align/evaluation_points.jsonl"),
        out=stage.out("artifacts/reports/evaluate"),
        params=params,
        runtime=stage.params["runtime"],
        device=stage.device,
        work=stage.work,
        kept=stage.kept,
        model_judge=stage.pinned(params.model_judge.path) if params.judge == "model" else None,
        open_base=stage.locked_base(),
        processes=stage.checkpoints.processes,
        log=stage.log,
        engine=open_engine(stage.rollouts, stage.work / "rollouts", stage.timeout),
    )


if __name__ == "__main__":
    run_stage("evaluate", main, HEADLINES)
    logging.getLogger(__name__).info("`groundup report` shows what came out")
