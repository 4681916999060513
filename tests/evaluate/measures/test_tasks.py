from types import SimpleNamespace
from typing import Any

import pytest

from groundup.evaluate.measures.tasks import Tasks, task_sentences
from groundup.evaluate.shown import Table
from tests.evaluate.measures.decoded import interval
from tests.evaluate.measures.made_up import context, metrics, task_scores


@pytest.fixture(autouse=True)
def _no_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.evaluate.measures.tasks.Suite", lambda *arguments: None)


def tasks(**changes: Any) -> Tasks:
    sft = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=8))
    tokenizer = SimpleNamespace(model_max_length=8)
    return Tasks(context(sft=sft, tokenizer=tokenizer, steps=None, **changes))


def table(measure: Tasks, values: dict[str, Any]) -> Table:
    return measure.shown(values).sections[0].tables[0]


def test_every_task_stands_beside_its_baselines_and_what_training_saw() -> None:
    found = table(tasks(), metrics())
    assert found.columns == [
        "", "Chance", "Unigram", "3-gram", "Untrained", "Base", "SFT", "Aligned", "Seen in training"
    ]  # fmt: skip
    rows = {row.label: [(cell.value, cell.interval) for cell in row.cells] for row in found.rows}
    assert list(rows) == ["Bits per byte", "chitchat", "wikipedia", "Topic choice"]
    assert rows["Bits per byte"][:3] == [("8.00", ""), ("2.75", "2.65 to 2.85"), ("2.01", "1.91 to 2.11")]
    assert rows["Bits per byte"][-1] == ("none found", "")
    assert rows["Topic choice"][:2] == [("25\u00a0%", ""), ("26\u00a0%", "16 to 36\u00a0%")]
    assert rows["Topic choice"][-1] == ("chats 0.7\u00a0%", "")
    assert next(row.note for row in found.rows if row.label == "Topic choice") == "300 questions"


def test_tasks_by_name_have_rows_of_their_own_and_gaps_where_ngrams_cannot_be_asked() -> None:
    values = metrics()
    for model in ("base", "sft", "aligned", "untrained"):
        values[model] |= {**interval("arc_easy_acc", 0.3, 0.25, 0.35), "arc_easy_chance": 0.25}
    row = table(tasks(named=SimpleNamespace(tasks={"arc_easy": None}, groups={})), values).rows[-1]
    assert row.label == "arc easy acc"
    assert [cell.value for cell in row.cells] == ["0.25", "", "", "0.30", "0.30", "0.30", "0.30", ""]


def test_bits_per_byte_stand_beside_counting() -> None:
    shown = tasks().shown(metrics())
    assert (shown.tiles[0].value, shown.tiles[0].note) == ("1.90", "3-grams 2.01, aligned 1.90")
    assert shown.sentences[0].endswith("n-grams of the same training text need 2.01.")
    assert "10 of the 20 documents" in shown.method[0]


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        (0.4, "The aligned model chooses better than guessing: topic 40\u00a0% (guessing 25\u00a0%)."),
        (0.3, "No better or worse than guessing, as far as the interval tells: topic 30\u00a0% (guessing 25\u00a0%)."),
        (0.1, "The aligned model chooses worse than guessing: topic 10\u00a0% (guessing 25\u00a0%)."),
    ],
)
def test_a_task_is_called_what_its_interval_allows(accuracy: float, said: str) -> None:
    assert task_sentences(task_scores(1.9, accuracy), ["topic"]) == [said]


def test_a_task_without_items_is_named() -> None:
    measure = tasks()
    measure.context.test_set.empty_tasks.append("next_reply")
    sentence = "Left out, since the test split of the data has no item for them: next reply."
    assert sentence in measure.shown(metrics()).sentences
