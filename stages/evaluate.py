"""base, SFT, reward and aligned models -> report card"""

from typing import Any

from groundup.runner.context import StageContext
from groundup.runner.stage import run_stage

REPORTED = ("prepare", "tokenizer", "pretrain", "sft", "reward", "align")
CURVES = ("pretrain", "sft", "reward", "align")


def main(stage: StageContext) -> dict[str, Any]:
    from groundup.evaluate.evaluate import evaluate
    from groundup.evaluate.report.lineage import add_clock

    metrics = evaluate(
        base=stage.dep("artifacts/base"),
        sft=stage.dep("artifacts/sft"),
        reward=stage.dep("artifacts/reward"),
        aligned=stage.dep("artifacts/aligned"),
        shards=stage.dep("artifacts/shards"),
        text=stage.dep("artifacts/data/text"),
        chats=stage.dep("artifacts/data/chats"),
        preferences=stage.dep("artifacts/data/preferences"),
        prompts=stage.dep("artifacts/data/prompts"),
        evaluation=stage.dep("artifacts/data/evaluation"),
        judge=stage.dep("artifacts/data/judge"),
        align_report=stage.dep("artifacts/reports/align"),
        curves={name: stage.dep(f"metrics/{name}.csv") for name in CURVES},
        reports={name: stage.dep(f"artifacts/reports/{name}") for name in REPORTED},
        ancestry=stage.ancestry(),
        out=stage.out("artifacts/report"),
        params=stage.params["evaluate"],
        runtime=stage.params["runtime"],
        device=stage.device,
        work=stage.work,
        verdicts=stage.kept / "verdicts.jsonl",
        log=stage.log,
    )
    report, copies = stage.out("artifacts/report"), stage.tracked("artifacts/report")
    add_clock(report / "report.html", stage.seconds(), stage.params["evaluate"], copies / "report.html")
    return metrics


if __name__ == "__main__":
    run_stage("evaluate", main)
