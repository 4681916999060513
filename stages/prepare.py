"""raw sources -> clean, deduplicated, decontaminated text; chats; preferences; prompts; evaluation sets; data card"""

from typing import Any

from groundup.runner.context import StageContext
from groundup.runner.stage import run_stage


def main(stage: StageContext) -> dict[str, Any]:
    from groundup.prepare.prepare import prepare
    from groundup.prepare.processes import available_cores

    return prepare(
        params=stage.params["prepare"],
        data_dir=stage.dep("data"),
        text=stage.out("artifacts/data/text"),
        chats=stage.out("artifacts/data/chats"),
        preferences=stage.out("artifacts/data/preferences"),
        prompts=stage.out("artifacts/data/prompts"),
        evaluation=stage.out("artifacts/data/evaluation"),
        monitor=stage.out("artifacts/data/monitor"),
        judge=stage.out("artifacts/data/judge"),
        report=stage.out("artifacts/reports/prepare"),
        work=stage.work,
        num_processes=available_cores(),
    )


if __name__ == "__main__":
    run_stage("prepare", main)
