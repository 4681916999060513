"""The held-out data that the models are measured on."""

from dataclasses import dataclass
from pathlib import Path

from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.training.runtime import draw
from groundup.evaluate.choices import check_items
from groundup.runner.params.evaluate import EvaluateParams


@dataclass(frozen=True)
class TestSet:
    """Samples of the test split."""

    documents: list[Row]
    num_documents_in_split: int
    tasks: dict[str, list[Row]]
    prompts: list[Row]


def load_test_set(text: Path, prompts: Path, evaluation: Path, params: EvaluateParams) -> TestSet:
    """ValueError names a file that is empty or has items that cannot be scored."""
    text, prompts = text / "test.jsonl", prompts / "test.jsonl"
    documents = list(read_jsonl(text, ("text", "source")))
    tasks = {path.stem: list(read_jsonl(path)) for path in sorted(evaluation.glob("*.jsonl"))}
    for name, items in tasks.items():
        check_items(items, name)
    prompt_rows = list(read_jsonl(prompts, ("conversation_id", "messages", "reply")))
    for path, rows in ((text, documents), (prompts, prompt_rows)):
        if not rows:
            raise ValueError(f"{path} is empty: raise prepare.splits.test or add data, then run prepare again")
    return TestSet(
        documents=draw(documents, params.num_documents, params.seed),
        num_documents_in_split=len(documents),
        tasks=tasks,
        prompts=draw(prompt_rows, params.num_prompts, params.seed),
    )
