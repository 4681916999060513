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
    empty_tasks: list[str]  # for which the data hold nothing
    prompts: list[Row]


def load_test_set(text: Path, prompts: Path, evaluation: Path, params: EvaluateParams) -> TestSet:
    """ValueError names what cannot be scored."""
    documents = list(read_jsonl(text / "test.jsonl", ("text", "source")))
    tasks = {path.stem: list(read_jsonl(path)) for path in sorted(evaluation.glob("*.jsonl"))}
    for name, items in tasks.items():
        check_items(items, name)
    prompt_rows = list(read_jsonl(prompts / "test.jsonl", ("conversation_id", "messages", "reply")))
    return TestSet(
        documents=draw(documents, params.num_documents, params.seed),
        num_documents_in_split=len(documents),
        tasks={name: items for name, items in tasks.items() if items},
        empty_tasks=[name for name, items in tasks.items() if not items],
        prompts=draw(prompt_rows, params.num_prompts, params.seed),
    )
