"""raw sources -> clean, deduplicated, decontaminated text; chats; preferences; prompts; evaluation sets; data card"""

from typing import Any

from groundup.runner.context import StageContext
from groundup.runner.stage import run_stage

# `groundup plan` derives the workload of the other stages from these counts, also in a fresh clone.
HEADLINES = (
    "num_characters_train",
    "num_characters_val",
    "num_chats_train",
    "num_prompts_train",
    "num_preference_pairs_train",
    "num_relevance_pairs_train",
    "num_preference_pairs_val",
    "num_preference_pairs_test",
)


def main(stage: StageContext) -> dict[str, Any]:
    from groundup.prepare.outputs.outputs import OUTPUTS
    from groundup.prepare.prepare import prepare
    from groundup.prepare.processes import available_cores

    return prepare(
        params=stage.params["prepare"],
        data_dir=stage.dep("data"),
        outs={name: stage.out(f"artifacts/data/{name}") for name in OUTPUTS},
        report=stage.out("artifacts/reports/prepare"),
        work=stage.work,
        num_processes=available_cores(),
    )


if __name__ == "__main__":
    run_stage("prepare", main, HEADLINES)
