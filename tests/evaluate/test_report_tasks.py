from dataclasses import replace

from groundup.evaluate.report.tasks import task_table
from tests.evaluate.test_report import MEASURED, interval, metrics


def test_every_task_stands_beside_its_baselines_and_what_training_saw() -> None:
    table = task_table(metrics(0.55, 0.65), MEASURED)
    assert table.columns == [
        "Chance", "Unigram", "5-gram", "Untrained", "Base", "SFT", "Aligned", "Seen in training"
    ]  # fmt: skip
    rows = {row.label: [(cell.value, cell.interval) for cell in row.cells] for row in table.rows}
    assert list(rows) == ["Bits per byte", "chitchat", "wikipedia", "Topic choice"]
    assert rows["Bits per byte"][:3] == [("8.00", ""), ("2.75", "2.65 to 2.85"), ("2.01", "1.91 to 2.11")]
    assert rows["Bits per byte"][-1] == ("0\u00a0%", "")
    assert rows["Topic choice"][-1] == ("chats 0.7\u00a0%", "")


def test_tasks_by_name_have_rows_of_their_own_and_gaps_where_ngrams_cannot_be_asked() -> None:
    values = metrics(0.55, 0.65)
    for model in ("base", "sft", "aligned", "untrained"):
        values[model] |= {**interval("arc_easy_acc", 0.3, 0.25, 0.35), "arc_easy_chance": 0.25}
    row = task_table(values, replace(MEASURED, named=["arc_easy"])).rows[-1]
    assert row.label == "arc easy acc"
    assert [cell.value for cell in row.cells] == ["0.25", "", "", "0.30", "0.30", "0.30", "0.30", ""]
