"""base, SFT, reward and aligned models -> report card"""

from typing import Any

from groundup.runner.stage import Stage, run_stage

# Its other figures are of the test split, and nobody should choose by those.
HEADLINES = ("gates_passed", "judge_agreement", "num_prompts", "num_documents")
REPORTED = ("prepare", "tokenizer", "pretrain", "sft", "reward", "align")
CURVES = ("pretrain", "sft", "reward", "align")


def main(stage: Stage) -> dict[str, Any]:
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
    page = stage.out("artifacts/report") / "report.html"
    add_clock(page, stage.seconds(), stage.params["evaluate"], stage.tracked("artifacts/report") / page.name)
    return metrics


if __name__ == "__main__":
    run_stage("evaluate", main, HEADLINES)
