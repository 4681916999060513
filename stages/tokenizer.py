"""text -> byte-level BPE tokenizer with chat template, its report, and packed token shards"""

from typing import Any

from groundup.frame.stage import Stage, run_stage


def main(stage: Stage) -> dict[str, Any]:
    with stage.importing():
        from groundup.data.shards import shard_text
        from groundup.data.tokenizer import train_tokenizer
    params = stage.params["tokenizer"]
    text = stage.dep("artifacts/data/text")
    metrics = train_tokenizer(
        text=text,
        out=stage.out("artifacts/tokenizer"),
        report=stage.out("artifacts/reports/tokenizer"),
        params=params,
        context_length=stage.params["model.context_length"],
    )
    return metrics | shard_text(
        tokenizer=stage.out("artifacts/tokenizer"),
        text=text / "train.jsonl",
        out=stage.out("artifacts/shards"),
        shard_tokens=params.shard_tokens,
    )


if __name__ == "__main__":
    run_stage("tokenizer", main)
