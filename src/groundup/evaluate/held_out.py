"""What the models are measured on."""

from dataclasses import dataclass
from pathlib import Path

from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.training.runtime import draw
from groundup.evaluate.choices import check_items, item_texts
from groundup.evaluate.harness.named import NamedTasks, metric_name
from groundup.evaluate.harness.tasks import BITS_PER_BYTE
from groundup.evaluate.measures.contamination import (
    Shares,
    contamination,
    openings,
    said,
    training_sets,
    without_opening,
)
from groundup.runner.params.evaluate import EvaluateParams


@dataclass(frozen=True)
class TestSet:
    """Drawn from the test split."""

    documents: list[Row]
    num_documents_in_split: int
    tasks: dict[str, list[Row]]
    prompts: list[Row]


def load_test_set(text: Path, prompts: Path, evaluation: Path, params: EvaluateParams) -> TestSet:
    """ValueError names the file that is empty or holds what cannot be scored."""
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


def contaminated(
    test_set: TestSet,
    named: NamedTasks,
    text: Path,
    chats: Path,
    preferences: Path,
    prompts: Path,
    params: EvaluateParams,
) -> Shares:
    """By task and training set, the share of items that a model may have seen."""
    given = openings(chats)
    items = {
        BITS_PER_BYTE: [[without_opening(row["text"], given)] for row in test_set.documents],
        **{name: [item_texts(item) for item in rows] for name, rows in test_set.tasks.items()},
        "prompts": [[said(row["messages"])] for row in test_set.prompts],
        **{metric_name(name): texts for name, texts in named.texts().items()},
    }
    return contamination(items, training_sets(text, chats, preferences, prompts), params.contamination_ngram)
