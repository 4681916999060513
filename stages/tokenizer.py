"""text -> tokenizer with chat template, trained or an open model's own, its report, and packed token shards"""

from typing import Any

from groundup.core.formats.needs import require_data
from groundup.runner.context import StageContext
from groundup.runner.stage import run_stage

HEADLINES = ("vocab_size", "val_bytes_per_token", "val_num_unused_tokens", "num_tokens")


def main(stage: StageContext) -> dict[str, Any]:
    require_data("tokenizer", {"text": stage.dep("artifacts/data/text")})
    if base := stage.base():
        from groundup.tokenizer.open_model import publish_tokenizer

        return publish_tokenizer(
            base=base,
            locked=stage.locked_base(),
            chat_template=stage.params["model.chat_template"],
            text=stage.dep("artifacts/data/text"),
            out=stage.out("artifacts/tokenizer"),
            report=stage.out("artifacts/reports/tokenizer"),
            shards=stage.out("artifacts/shards"),
            params=stage.params["tokenizer"],
            context_length=stage.params["model.context_length"],
            work=stage.work,
        )
    from groundup.tokenizer.tokenizer import train_tokenizer

    return train_tokenizer(
        text=stage.dep("artifacts/data/text"),
        out=stage.out("artifacts/tokenizer"),
        report=stage.out("artifacts/reports/tokenizer"),
        shards=stage.out("artifacts/shards"),
        params=stage.params["tokenizer"],
        context_length=stage.params["model.context_length"],
        work=stage.work,
    )


if __name__ == "__main__":
    run_stage("tokenizer", main, HEADLINES)
